"""A plain directory as a destination."""
