"""Processes of our own beside the one that the user started: how they are started, and one without root as root."""
