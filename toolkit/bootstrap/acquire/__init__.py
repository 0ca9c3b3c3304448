"""Choosing mirrors and sources, and fetching their indexes and packages.

Uses `facts`.
"""
