"""Choose rows from a scores table, and say what was chosen and why."""
