"""The lines of all pods as one log."""
