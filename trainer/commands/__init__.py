"""The trainer's commands, one module each: flags, help and what is printed. Only the one that is asked for is loaded."""
