"""`ctk build`: a Containerfile becomes an image in the store."""
