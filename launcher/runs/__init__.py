"""What a run left in its bucket."""
