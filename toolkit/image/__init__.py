"""Images: image-spec 1.1 and distribution-spec 1.1, from a registry to a root file system and back."""
