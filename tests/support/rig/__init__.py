"""Brokers, databases and proxies for tests to use and to break."""

# The limit of every wait for an event, in seconds. Generous: it proves "does not hang" on a busy machine,
# and nothing about speed.
PATIENCE = 30.0
