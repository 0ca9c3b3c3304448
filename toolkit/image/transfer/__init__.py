"""Images from any place to any other, byte for byte."""
