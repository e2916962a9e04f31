"""Every background with every foreground."""
