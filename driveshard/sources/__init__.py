"""What can be packed: a folder, Python code, composed images."""
