"""Tests of the Triton kernels under Triton's interpreter; tests/test_triton_interpreter.py runs them."""
