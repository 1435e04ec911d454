"""The trainer's commands, one module each: flags, help and output. Only the requested one is imported."""
