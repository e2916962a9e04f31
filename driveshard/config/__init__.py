"""What can be set, and where it was set."""
