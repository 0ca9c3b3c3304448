"""Commands about images, one file per group."""
