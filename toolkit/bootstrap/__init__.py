"""The stages that make a rootfs."""
