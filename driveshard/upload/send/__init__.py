"""Sends parts."""
