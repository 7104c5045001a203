"""The published Memory Maze, drawn by whatever OpenGL there is."""

from __future__ import annotations

from importlib.util import find_spec

# The ordinary suite runs without the extra. Not the package itself, since this folder would pass for it.
collect_ignore_glob = [] if find_spec("dm_control") else ["test_*.py"]
