"""Files under a run's prefix, in a directory or a bucket; shared with the launcher, so it does not import torch."""
