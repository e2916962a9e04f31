"""Values and small tools that everybody uses."""
