"""Methods whose steps look at one coordinate at a time."""
