"""A trained model at work on images: predictions, evaluation and export."""
