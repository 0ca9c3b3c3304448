"""Programs that run in the guest: one for each theme, and what they share (room.py)."""
