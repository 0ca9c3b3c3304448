"""Look after the host: what it can do (doctor), what is left over (gc), how a tree goes away again (trees)."""
