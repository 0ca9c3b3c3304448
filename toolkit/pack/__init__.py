"""A tree as one file, and back: its members in order, and the writers of the formats. Knows no archive and no suite."""
