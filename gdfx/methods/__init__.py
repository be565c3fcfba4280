"""One file per method: the direction (what it makes of the gradient), then its optimizers."""
