"""Fine-tune on a selection and on its baselines, and compare."""
