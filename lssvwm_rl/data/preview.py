"""Pictures of a store: a contact sheet, with a row for each episode, and a video."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.files import check_new, written_whole
from lssvwm_rl.pictures import MIN_HEIGHT, enlarge, frame_strip, resized, write_image, write_video
from lssvwm_rl.progress import Update

SHEET, VIDEO = "contact.png", "episodes.mp4"
COLUMNS = 8  # frames of an episode on the sheet, from its first to its last
FILMED = 3  # episodes in the video
LONGEST = 240  # frames of each of them
HIGHEST = 2 * MIN_HEIGHT  # pixels; larger frames are shown smaller


def write_preview(store: EpisodeStore, out: str | Path, episodes: int, progress: Update) -> list[int]:
    """Write `contact.png` and `episodes.mp4` into the new folder `out`, which appears once both are there.

    Args:
        episodes: on the sheet, from all of the store.
        progress: told of each.

    Returns:
        the numbers of the episodes.

    Raises:
        FileExistsError: if there is something at `out`.
        ValueError: if no episode is asked for, or the store is empty or broken.
    """
    check_new(out)
    if episodes < 1:
        raise ValueError(f"--episodes must be at least 1, got {episodes}.")
    if not len(store):
        raise ValueError(f"{store.path} has no episodes; collect some with `lssvwm collect`.")
    shown = np.unique(np.linspace(0, len(store) - 1, min(episodes, len(store))).round().astype(int)).tolist()
    rows: list[np.ndarray] = []
    for done, number in enumerate(shown):
        times = np.linspace(0, store.lengths[number], COLUMNS).round().astype(int).tolist()
        # Of an episode shorter than the sheet is wide, some frames are there twice.
        rows += [frame for time in times for frame in _shown(store, number, time, time + 1)]
        progress(done + 1, len(shown) + 1)
    films = [frame for k in shown[:FILMED] for frame in _shown(store, k, 0, min(LONGEST, int(store.lengths[k]) + 1))]
    with written_whole(out) as partial:
        partial.mkdir()
        sheet = frame_strip(enlarge(np.stack(rows)), COLUMNS)
        write_image(partial / SHEET, sheet)
        write_video(partial / VIDEO, np.stack(films))
    progress(len(shown) + 1, len(shown) + 1)
    return shown


def _shown(store: EpisodeStore, episode: int, start: int, stop: int) -> Iterator[np.ndarray]:
    """Frames of an episode at a size at which many fit into one picture, read one at a time."""
    for time in range(start, stop):
        frame = store.read(episode, time, time + 1).frames[0]
        height, width = frame.shape[:2]
        if height > HIGHEST:
            # Of even sizes, as video codecs need them.
            frame = resized(frame, (MIN_HEIGHT, max(2, 2 * round(width * MIN_HEIGHT / height / 2))))
        yield frame
