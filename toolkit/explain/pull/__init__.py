"""A pull in words, as HTTP and as a script (`ctk pull --explain`)."""
