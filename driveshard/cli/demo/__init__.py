"""The whole job offline."""
