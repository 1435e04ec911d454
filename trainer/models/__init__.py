"""Networks, their weights, and loading what was trained."""
