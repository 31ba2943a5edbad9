"""Read corpora row by row, whatever their format, and account for every row."""
