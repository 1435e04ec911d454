"""Status of a job in the cluster, and diagnosis of why it does not run."""
