"""Wrappers of system calls under their man-page names; the only folder that calls C."""
