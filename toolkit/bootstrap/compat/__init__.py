"""Compatibility with debootstrap and similar tools: foreign builds, tarballs of packages, debootstrap as the engine.

Uses every room but `host`.
"""
