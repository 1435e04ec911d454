"""Networks, pretrained weights, and loading of trained models."""
