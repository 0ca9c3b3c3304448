"""Debian's formats. Pure: nothing here opens a file, uses the network or starts a process."""
