"""Create, find, wait for and delete jobs, on a cluster or on this machine."""
