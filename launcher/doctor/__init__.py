"""Checks of a job's prerequisites, one row each."""
