"""Arrays in, numbers out: every op checks its arguments, picks an implementation, and reshapes."""
