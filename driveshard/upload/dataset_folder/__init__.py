"""The dataset's folder at the destination: found or made, compared, published, shared."""
