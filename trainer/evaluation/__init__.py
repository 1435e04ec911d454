"""Statistics of predictions, with confidence intervals; from predictions and labels to the evaluation document; does
not import torch.
"""
