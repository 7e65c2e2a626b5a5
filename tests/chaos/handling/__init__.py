"""The app of the consumer part: its handler."""
