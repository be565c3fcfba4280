"""Methods whose steps look at the whole tree."""
