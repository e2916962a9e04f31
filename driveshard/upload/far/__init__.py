"""Parts that lie where they were built, on the workers of a cluster, until they are sent from there."""
