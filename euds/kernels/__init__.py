"""One file per op and technique; a kernel trusts its caller and knows no names, devices or errors of the user."""
