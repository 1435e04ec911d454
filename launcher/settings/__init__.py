"""Settings of a job: read, validate and write them."""
