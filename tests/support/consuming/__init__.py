"""An app with a handler, and settings, for workers in processes of their own."""
