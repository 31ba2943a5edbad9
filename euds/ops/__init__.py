"""Arrays in, numbers out: check arguments, pick an implementation, reshape."""
