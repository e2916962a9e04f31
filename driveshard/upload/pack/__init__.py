"""Builds parts."""
