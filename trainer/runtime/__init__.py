"""The process: who it is among the workers, its signals, its console, and the entrypoint that starts them all."""
