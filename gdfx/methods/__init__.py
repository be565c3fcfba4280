"""One file per method: the direction, then its ready-made optimizers."""
