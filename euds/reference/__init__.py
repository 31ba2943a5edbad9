"""The definitions in float64, short and slow: the oracle of every test, and no fallback."""
