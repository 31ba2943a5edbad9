"""The command line: the same verbs as the Python functions, one file a group of commands."""
