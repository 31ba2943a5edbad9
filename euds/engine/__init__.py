"""Score a corpus into a run directory, resumably."""
