"""Checks before anything is spent, a row for each."""
