"""What to pack: a folder of files, a generator of composed images, or a Python object."""
