"""What the cluster says of a job, and why it does not run."""
