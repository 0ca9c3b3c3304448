"""Turn a tree into one file and back: tar reader and writer, extraction, file system images.

Knows no mirror, no suite and no container. Imports the standard library only, and zstandard when a stream needs it.
"""
