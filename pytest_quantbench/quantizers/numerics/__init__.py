"""Arithmetic that the methods share: on numpy arrays, and of no engine."""
