"""Every definition in float64, short and slow: the oracle of the tests, never a fallback."""
