"""One job at several sizes."""
