"""The benchmark of stored messages: outbox, relay, claims, on PostgreSQL."""
