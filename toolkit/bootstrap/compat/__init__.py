"""What debootstrap and its kin have: the two halves of a foreign build, tarballs of packages, debootstrap itself.

Uses every room but `host`.
"""
