"""Small parts merged into large ones."""
