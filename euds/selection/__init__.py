"""Choose rows from a table of scores."""
