"""Recipes: score, select, fine-tune and report in one go."""
