"""The training loop, and all that lives only while it runs."""
