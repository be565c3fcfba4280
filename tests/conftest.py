"""Set before JAX starts: eight simulated devices. Warnings are errors by pyproject.toml."""

import gc
import os
import tempfile

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read at import; else its threads fight

import hypothesis
import jax
import pytest

from gdfx.testing.versions import enable_x64

jax.config.update("jax_num_cpu_devices", 8)

# What XLA has compiled for one method, another need not compile again, though JAX's own memory is
# cleared between them. Each worker has a folder: JAX does not lock what it writes.
compiled = tempfile.TemporaryDirectory(prefix="gdfx-tests-")
jax.config.update("jax_compilation_cache_dir", compiled.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def pytest_unconfigure():
    compiled.cleanup()


# They hold no doctests, and as modules of one name they would be in each other's way; recordings
# are made with packages that tests do without.
collect_ignore_glob = ["*conftest.py", "recordings/*"]

# What JAX has traced and compiled is kept; to walk it at every collection takes time.
gc.set_threshold(200_000, 100, 1000)

# The same examples in every run: a failure is the code's, not the day's.
phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate, hypothesis.Phase.shrink]
hypothesis.settings.register_profile(
    "gdfx", derandomize=True, deadline=None, max_examples=15, database=None, phases=phases
)
hypothesis.settings.load_profile("gdfx")


@pytest.fixture
def x64():
    """Float64 is allowed while the test runs."""
    with enable_x64(True):
        yield


@pytest.fixture(params=["float32", "float64"])
def precision(request):
    """The test runs in both modes of JAX, in the widest dtype of each."""
    with enable_x64(request.param == "float64"):
        yield request.param


def pytest_addoption(parser):
    parser.addoption(
        "--laws",
        choices=("quick", "full"),
        default="quick",
        help="full: every law on every method, on as many cases as gdfx check takes: hours",
    )
