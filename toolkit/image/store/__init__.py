"""The local store of images: an OCI layout that skopeo and umoci read, with laid-out layers beside it."""
