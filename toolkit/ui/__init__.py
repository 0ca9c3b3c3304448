"""Events become something to look at: live (rich), plain lines, JSON lines, failures."""
