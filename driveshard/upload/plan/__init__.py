"""Cuts a source into parts."""
