"""Specification of a job and its Kubernetes manifest; pure."""
