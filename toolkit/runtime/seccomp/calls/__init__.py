"""System call numbers, one module an architecture, loaded only while a profile is compiled."""
