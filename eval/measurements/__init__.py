"""Measurements: a protocol with its data set, its features out of the store, and its run on disk."""
