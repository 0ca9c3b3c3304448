"""Debian's formats, pure: no file is opened here, no network, no process."""
