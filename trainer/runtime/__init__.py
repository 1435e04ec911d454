"""Processes of a job: ranks, agreement, signals, console, and the entrypoint that starts the workers."""
