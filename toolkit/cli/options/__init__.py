"""Options that commands of the second door share, by what they are about."""
