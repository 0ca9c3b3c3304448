"""ctk: a rootfs builder and container runtime toolkit."""

__version__ = "0.1.0"
