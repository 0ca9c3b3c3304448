"""Networks in words: what puts a container on one, line by line."""
