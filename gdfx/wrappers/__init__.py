"""Wrappers around whole optimizers: gdfx's, optax's or any other."""
