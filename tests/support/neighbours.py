"""Another process that writes to a folder, until it is killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

HOLD = """
import sys
from lssvwm_rl.files import only_writer
with only_writer(sys.argv[1], "folder"):
    print("writing", flush=True)
    sys.stdin.read()
"""


@contextmanager
def neighbour(folder) -> Iterator[subprocess.Popen]:
    """A process that writes there while the block runs, and ends with SIGKILL."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "writing\n"
        try:
            yield process
        finally:
            process.kill()
