"""Models and data sets by name: fetched as pinned, hash-checked packages, never from a hub."""
