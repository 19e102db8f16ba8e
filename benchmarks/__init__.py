"""Speed claims of the project, each as a ratio against its reference in one run: `python -m benchmarks`."""
