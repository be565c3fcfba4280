"""What an older JAX calls otherwise or keeps elsewhere, under the newest JAX's name."""

import jax

from gdfx.core.versions import enable_x64 as enable_x64

# Otherwise before JAX 0.7.
set_mesh = jax.set_mesh if hasattr(jax, "set_mesh") else jax.sharding.use_mesh  # pyright: ignore[reportAttributeAccessIssue]
