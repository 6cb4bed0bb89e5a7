"""Sessions in Redis, Valkey, or a cluster of either."""
