"""Text that leaves the process, without the secrets that it knows."""
