"""Where a job's settings come from."""
