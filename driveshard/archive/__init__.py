"""The published form of a dataset: zip parts, manifest, index: how they are written and read."""
