"""From a source to a published dataset."""
