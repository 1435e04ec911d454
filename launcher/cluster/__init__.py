"""Client of the API server, and computations on cluster objects; the only API client in the launcher."""
