"""The journal of a dataset's parts."""
