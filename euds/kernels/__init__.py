"""One file an op and technique; kernels trust their caller and know nothing of names, devices or user errors."""
