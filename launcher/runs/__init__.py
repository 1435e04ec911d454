"""Results of runs in a bucket or directory: locate, list, download and resume."""
