"""Many selection methods at equal budgets over seeds: finished cells, their statistics, and their page."""
