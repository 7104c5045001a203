"""What can be said about a recording where it does not say it itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

Rows = Literal["taken-at", "led-to"]


@dataclass(frozen=True)
class ImportOptions:
    """Options of all formats; which of them a format has is in `formats.FORMATS`."""

    resize: tuple[int, int] | None = None
    """Height and width of the store's frames; without it they stay as they are."""
    image: str | None = None
    """Key of the image, or of the camera, among several (lerobot, minari)."""
    vector: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="KEY [KEY ...]")] = None
    """What is recorded as numbers with every frame. Without it: pose of npz, which is made of agent_pos, agent_dir and
    maze_layout; all that was observed of lerobot and minari; nothing of video."""
    action_column: tuple[str, ...] = ()
    """Columns or features of the action, side by side (video, lerobot); without it `action`, or of a table all columns
    that begin with it."""
    actions: int | None = None
    """Number of actions, if they are counted and the largest does not occur (video, lerobot)."""
    rows: Rows = "taken-at"
    """What row i means in a table with a row for each frame (video): the action taken at frame i, of which the last one
    leads nowhere, or the one that led to frame i, of which the first one is none."""
