"""One container from create to delete: the hot path (standard library only, nothing slow to import)."""
