"""Where parts can go, and how politely."""
