"""From a published dataset to bytes."""
