"""The only client of the API server, and what it knows of the cluster."""
