"""Where a node's reports go: `RedisSink` in a fleet, `MemorySink` in tests and without one."""
