"""From a rootfs to a bundle: the spec builder behind `ctk spec`."""
