"""Observe containers from outside: inspect, stats, top, diff. Read-only."""
