"""Training loop, and the state and setup of a running training."""
