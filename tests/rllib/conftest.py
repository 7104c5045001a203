"""RLlib trains in the dream, in processes of its own."""

from __future__ import annotations

import os
import secrets
import tempfile
from importlib.util import find_spec

import pytest

# The ordinary suite runs without the extra.
collect_ignore_glob = [] if find_spec("ray") else ["test_*.py"]


@pytest.fixture(scope="session", autouse=True)
def quiet_ray():
    """A Ray without settings of this machine's user, which reports nothing and leaves neither token nor logs behind."""
    # Not pytest's folder: sockets lie in this one, and their paths must be short. Ray may still write while it ends.
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder,
    ):
        for name in [name for name in os.environ if name.startswith("RAY_")]:
            patch.delenv(name)
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        yield
