"""`python -m benchmarks`: this reader against everything else, on the same data, in one run."""
