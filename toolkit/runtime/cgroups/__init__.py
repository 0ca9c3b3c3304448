"""Control groups: one interface over v1, hybrid and v2, cgroupfs and systemd."""
