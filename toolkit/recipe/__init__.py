"""Tutorials that run: parse, model, play."""
