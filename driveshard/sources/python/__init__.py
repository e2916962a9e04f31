"""Samples from the user's code."""
