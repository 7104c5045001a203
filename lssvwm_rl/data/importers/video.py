"""Reads videos, or folders of images, each with a table of actions beside it, into an episode store.

    SOURCE/ep0.mp4   SOURCE/ep0.csv      a video and its table: one episode
    SOURCE/ep1/      SOURCE/ep1.jsonl    a folder of images and its table: another one

A table has a column `action` (or several that begin with it), and may have `reward`, `terminated` and `truncated`. With
a row less than there are frames, row i is what was done between frames i and i + 1. With a row for each frame, it is
what was done at frame i ("taken-at": the last row leads nowhere and is left out), or what led to frame i ("led-to": the
first row is left out), see `ImportOptions.rows`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lssvwm_rl.data.episode import Episode, StoreHeader
from lssvwm_rl.data.importers.actions import inferred_space, space_sentence, stored_actions
from lssvwm_rl.data.importers.frames import (
    VIDEOS,
    FrameRule,
    announced_count,
    by_number,
    image_files,
    image_frames,
    packet_count,
    video_frames,
    visible,
)
from lssvwm_rl.data.importers.options import ImportOptions
from lssvwm_rl.data.importers.recording import Recording, check_numbers, float32
from lssvwm_rl.data.importers.tables import TABLES, has_value, numbers, read_rows, truths
from lssvwm_rl.spaces import space_from_json, space_to_json

POLICY = "offline video"  # in the store's header
ACTION, REWARD, TERMINATED, TRUNCATED = "action", "reward", "terminated", "truncated"


@dataclass(frozen=True)
class _Steps:
    """What the table of an episode of F frames says."""

    path: Path  # of the frames
    frames: int
    actions: np.ndarray  # (T, A)
    rewards: np.ndarray | None  # (T,) float32
    terminated: bool
    truncated: bool
    vectors: np.ndarray | None  # (T+1, V) float32
    left_out: float | None  # reward of a last row that leads nowhere


def open_videos(source: str | Path, options: ImportOptions) -> Recording:
    """Read the tables, and find out what the frames are like.

    Raises:
        FileNotFoundError: if there are no such files.
        ValueError: if a table is missing, cannot be used, or does not fit its frames.
    """
    pairs = _pairs(Path(source))
    columns = _columns(pairs[0][1], options)
    steps = [_steps(frames, table, columns, options) for frames, table in pairs]
    for each, (_, table) in zip(steps, pairs, strict=True):
        if each.actions.shape[1] != steps[0].actions.shape[1]:
            raise ValueError(
                f"Actions of {table} are {each.actions.shape[1]} numbers, those of {pairs[0][1]} "
                f"{steps[0].actions.shape[1]}; correct it."
            )
        if (each.rewards is None) != (steps[0].rewards is None):
            with_it, without = (table, pairs[0][1]) if steps[0].rewards is None else (pairs[0][1], table)
            raise ValueError(f"{with_it} has a column {REWARD!r}, {without} has none; write it into all or none.")
    space = inferred_space([each.actions for each in steps], options.actions)
    rule = FrameRule.of_first(_frames(steps[0].path), options.resize, str(steps[0].path))
    sizes = {} if steps[0].vectors is None else _vector_sizes(pairs[0][1], options)
    header = StoreHeader(rule.shape, space_to_json(space), sizes, policy=POLICY)
    left_out = [each.left_out for each in steps if each.left_out is not None]
    if left_out:
        warnings.warn(
            f"The last rows of {len(left_out)} episodes, with rewards of {sum(left_out):g} in all, are left out: no "
            "frame follows them.",
            RuntimeWarning,
            stacklevel=2,
        )
    about = [f"Actions: {space_sentence(space)}, from {' and '.join(columns)}"]
    if steps[0].rewards is None:
        about.append(f"There is no column {REWARD!r}: all rewards are 0")
    return Recording(header, len(steps), partial(_episodes, steps, header, rule), tuple(about))


def _pairs(source: Path) -> list[tuple[Path, Path]]:
    """Frames and their tables, by name."""
    if not source.exists():
        raise FileNotFoundError(f"There is nothing at {source}; name a folder of videos, or one video.")
    if source.is_file():
        found = [source]
    else:
        below = [path for path in visible(source) if path.suffix.lower() in VIDEOS and path.is_file()]
        below += [path for path in (source, *visible(source)) if path.is_dir() and _is_episode(path)]
        found = sorted(below, key=by_number)
    if not found:
        raise FileNotFoundError(
            f"There are no videos ({', '.join(VIDEOS)}) and no folders of images at {source}; name another folder."
        )
    pairs = [(path, _table(path)) for path in found]
    tables = {table for _, table in pairs}
    if len(tables) < len(pairs):
        raise ValueError(f"Two recordings in {source} share a table, since they have one name; rename one of them.")
    if source.is_dir():
        alone = [p for p in visible(source) if p.suffix.lower() in TABLES and p not in tables]
        if alone:
            raise ValueError(
                f"There are no frames for {alone[0]}; add {alone[0].with_suffix('.mp4').name}, or remove it."
            )
    return pairs


def _is_episode(folder: Path) -> bool:
    """Whether a folder is one of images, and not one of recordings with a picture beside them."""
    others = any(path.suffix.lower() in (*VIDEOS, *TABLES) for path in folder.iterdir())
    return bool(image_files(folder)) and not others


def _table(path: Path) -> Path:
    stem = path.with_suffix("") if path.is_file() else path
    found = [table for suffix in TABLES if (table := stem.with_name(stem.name + suffix)).is_file()]
    if len(found) != 1:
        names = " and ".join(f"{stem.name}{suffix}" for suffix in TABLES)
        raise ValueError(
            f"There are both {names} beside {path}; remove one."
            if found
            else f"There is no table of the actions of {path}; write {stem.name}.csv or .jsonl beside it."
        )
    return found[0]


def _columns(table: Path, options: ImportOptions) -> tuple[str, ...]:
    """Of the action: those that were named, `action`, or all that begin with it."""
    if options.action_column:
        return options.action_column
    names = list(read_rows(table)[0])
    found = (ACTION,) if ACTION in names else tuple(name for name in names if name.startswith(ACTION))
    if not found:
        raise ValueError(f"{table} has no column {ACTION!r}, only {', '.join(names)}; name one with --action-column.")
    return found


def _steps(path: Path, table: Path, columns: Sequence[str], options: ImportOptions) -> _Steps:
    rows = read_rows(table)
    frames = _frame_count(path, len(rows), table)
    first, last = 0, len(rows)
    if len(rows) == frames:
        first, last = (0, last - 1) if options.rows == "taken-at" else (1, last)
    kept = rows[first:last]
    ends = [truths(kept, column, table) for column in (TERMINATED, TRUNCATED)]
    early = (ends[0] | ends[1])[:-1]
    if early.any():
        row = int(early.argmax())
        raise ValueError(f"Row {first + row} of {table} ends the episode, and others follow; write one table for each.")
    rewards = _rewards(kept, table) if _has_rewards(kept, table) else None
    terminated, truncated = (bool(flags[-1]) for flags in ends)
    left_out = None
    if last < len(rows):
        beyond = rows[last]
        if not has_value(beyond, columns):  # it is there for its frame, and says whether that is the end
            terminated = terminated or bool(truths([beyond], TERMINATED, table)[0])
        elif _has_rewards([beyond], table):
            left_out = float(_rewards([beyond], table)[0])
    vectors = _vectors(rows, frames, table, options)
    actions = numbers(kept, columns, table)
    return _Steps(path, frames, actions, rewards, terminated, truncated or not terminated, vectors, left_out)


def _rewards(rows: Sequence[dict[str, Any]], table: Path) -> np.ndarray:
    """(T,) float32."""
    found = numbers(rows, (REWARD,), table)
    if found.shape[1] != 1:
        raise ValueError(f"{REWARD!r} of {table} is {found.shape[1]} numbers in a row; write one.")
    return float32(found[:, 0])


def _has_rewards(rows: Sequence[dict[str, Any]], table: Path) -> bool:
    having = [REWARD in row for row in rows]
    if any(having) and not all(having):
        raise ValueError(f"Row {having.index(False)} of {table} has no {REWARD!r}; write one in each row, or in none.")
    return any(having)


def _vectors(rows: Sequence[dict[str, Any]], frames: int, table: Path, options: ImportOptions) -> np.ndarray | None:
    if not options.vector:
        return None
    if len(rows) != frames:
        raise ValueError(
            f"{table} has {len(rows)} rows for {frames} frames, and vectors need a row for each; add the last one."
        )
    return float32(numbers(rows, options.vector, table))


def _vector_sizes(table: Path, options: ImportOptions) -> dict[str, int]:
    first = read_rows(table)[:1]
    return {name: numbers(first, (name,), table).shape[1] for name in options.vector or ()}


def _frame_count(path: Path, rows: int, table: Path) -> int:
    """Frames of a recording; a video is only decoded for it if its container counts what does not fit."""
    fitting = (rows, rows + 1)
    count = packet_count(path) if path.is_file() else len(image_files(path))
    if count not in fitting and path.is_file():
        count = sum(1 for _ in video_frames(path))
        if count not in fitting and (announced := announced_count(path)) > count:
            raise ValueError(
                f"{path} is cut off: it announces {announced} frames, and {count} can be decoded, while {table} has "
                f"{rows} rows; record or copy that file again."
            )
    if count < 2:
        raise ValueError(f"{path} has {count} frame{'' if count == 1 else 's'}; an episode has at least two.")
    if count not in fitting:
        raise ValueError(
            f"{table} has {rows} rows for the {count} frames of {path}; write one for each action, {count - 1}, or one "
            f"for each frame, {count}."
        )
    return count


def _frames(path: Path) -> Iterator[np.ndarray]:
    return video_frames(path) if path.is_file() else image_frames(image_files(path))


def _episodes(steps: Sequence[_Steps], header: StoreHeader, rule: FrameRule, first: int) -> Iterator[Episode]:
    space = space_from_json(header.action_space)
    for each in steps[first:]:
        source = _frames(each.path)
        frames = rule.collect(source, each.frames, str(each.path))
        more = sum(1 for _ in source)
        if more or len(frames) != each.frames:
            raise ValueError(
                f"{each.path} has {len(frames) + more} frames, and its table is for {each.frames}; record or copy that "
                "file again."
            )
        actions = stored_actions(each.actions, space)
        rewards = np.zeros(len(actions), np.float32) if each.rewards is None else each.rewards
        episode = Episode(frames, actions, rewards, each.terminated, each.truncated, each.vectors)
        check_numbers(episode, header, str(each.path))
        yield episode
