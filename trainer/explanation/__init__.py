"""Where a model sees what it says, and how well that agrees with what radiologists drew."""
