"""A job and its Kubernetes manifest; pure."""
