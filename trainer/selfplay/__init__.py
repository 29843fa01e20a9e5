"""Self-play: a behavior learns by playing against earlier versions of itself, or of its opponent."""
