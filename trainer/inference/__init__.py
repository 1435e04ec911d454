"""Use of trained models: predictions, evaluation and export."""
