"""Fine-tune small models on selections and compare them with baselines."""
