"""Look at what runs, from outside: inspect, stats, top, diff. Nothing here changes anything."""
