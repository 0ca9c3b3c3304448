"""Commands about images, one file a group."""
