"""Explanation of predictions by class activation maps, and their agreement with boxes drawn by radiologists."""
