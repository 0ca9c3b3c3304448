"""A tree as one file, and back: tar read and written, files made from members, images.

Knows no mirror, no suite and no container. Imports the standard library only, and zstandard when a stream needs it.
"""
