"""Networks of containers: their tables, addresses and links. docs/MAP.md says what stands where."""
