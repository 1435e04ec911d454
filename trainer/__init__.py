"""Training of chest X-ray classifiers; runs in the pod."""

__version__ = "0.1.0"
