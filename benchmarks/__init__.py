"""Benchmarks: every table of the README and of the notes, made by one command each."""
