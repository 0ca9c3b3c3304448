"""Care for the host: what it can do (doctor), what is left over on it (gc), removal of trees (trees)."""
