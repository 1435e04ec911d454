"""Images: decoded once, loaded in order, augmented on the device."""
