"""What an older JAX calls otherwise or keeps elsewhere, under the newest JAX's name."""

import jax
import jax.experimental

# Elsewhere before JAX 0.8.
enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64  # pyright: ignore[reportAttributeAccessIssue]

# Otherwise before JAX 0.7.
set_mesh = jax.set_mesh if hasattr(jax, "set_mesh") else jax.sharding.use_mesh  # pyright: ignore[reportAttributeAccessIssue]
