"""Layers of images: read and verified, laid out as a tree or for overlayfs (image-spec 1.1, layer.md).

Knows no registry and no store: a layer is an iterator of its blob's bytes, a descriptor and a diff id.
"""
