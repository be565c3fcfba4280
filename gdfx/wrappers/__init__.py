"""Transformations of transformations: they take any optax optimizer, gdfx's own or another."""
