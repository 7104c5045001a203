"""What is in a store, in numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from lssvwm_rl.data.remote import relative, size_of
from lssvwm_rl.data.shards import missing_shards
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.spaces import space_from_json

SHOWN = 8  # numbers of a Box that the text shows


def summarise(store: EpisodeStore) -> dict[str, Any]:
    """JSON values: episodes, steps, spaces, lengths, rewards, returns, ends, seeds, environment, actions, bytes, and
    the names of shards that are missing between others.

    No frame is decoded, but all else is read, shard by shard.

    Raises:
        ValueError: if a shard is broken.
    """
    header, rewards, lengths = store.header, store.rewards(), store.lengths
    begins = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64) if len(store) else np.zeros(0, np.int64)
    returns = np.add.reduceat(rewards.astype(np.float64), begins) if len(store) else np.zeros(0)
    ends = {"terminated": 0, "truncated": 0, "neither": 0}
    actions: list[np.ndarray] = []
    for terminated, truncated, acted in store.endings():
        ends["terminated"] += int(terminated.sum())
        ends["truncated"] += int((truncated & ~terminated).sum())
        ends["neither"] += int((~terminated & ~truncated).sum())
        actions.append(acted)
    seeds = store.seeds[store.seeds >= 0]
    return {
        "path": str(store.path),
        "episodes": len(store),
        "steps": int(lengths.sum()),
        "image": list(header.frame_shape),
        "action_space": header.action_space,
        "observation_space": header.observation_space,
        "vectors": header.vector_keys,
        "environment": _environment(header.env_spec),
        "policy": header.policy,
        "lengths": _spread(lengths),
        "returns": _spread(returns),
        "rewards": {**_spread(rewards), "steps_with_reward": int((rewards != 0).sum())},
        "ends": ends,
        "seeds": {"known": len(seeds), "different": len(set(seeds.tolist())), **_range(seeds)},
        "actions": _actions(actions, space_from_json(header.action_space)),
        "bytes": _bytes(store),
        "missing_shards": [shard.name for shard in missing_shards(store.path)],
    }


def summary_text(found: Mapping[str, Any]) -> str:
    """What `summarise` gave, as lines."""
    height, width, channels = found["image"]
    size, seeds = found["bytes"], found["seeds"]
    lines = {
        "episodes": f"{found['episodes']:,} of {found['steps']:,} steps",
        "image": f"{height}x{width} pixels of {channels} channel{'s' if channels > 1 else ''}, uint8",
        "vectors": ", ".join(f"{key} ({n})" for key, n in found["vectors"].items()) or "none",
        "actions": str(space_from_json(found["action_space"])),
        "environment": found["environment"] or "not known",
        "policy": found["policy"],
        "lengths": _said(found["lengths"]),
        "returns": _said(found["returns"]),
        "rewards": f"{_said(found['rewards'])}; {found['rewards']['steps_with_reward']:,} steps have one",
        "ends": ", ".join(f"{count:,} {name}" for name, count in found["ends"].items() if count) or "none",
        "seeds": f"{seeds['known']:,} known, {seeds['different']:,} different"
        + (f", {seeds['least']:,} to {seeds['largest']:,}" if seeds["known"] else ""),
        "on disk": f"{size['on_disk'] / 1e6:,.2f} MB in {size['shards']} shard{'s' if size['shards'] != 1 else ''}",
        "in memory": f"{size['frames_decoded'] / 1e6:,.2f} MB of frames",
    }
    if found["missing_shards"]:
        lines["missing"] = _missing(found["missing_shards"])
    text = "\n".join(f"{name:<12} {value}" for name, value in lines.items())
    return f"{text}\n{_histogram(found['actions'])}".rstrip()


def _spread(values: np.ndarray) -> dict[str, float | None]:
    if not len(values):
        return dict.fromkeys(("mean", "least", "median", "largest"))
    wide = values.astype(np.float64)
    facts = {"mean": wide.mean(), "least": wide.min(), "median": np.median(wide), "largest": wide.max()}
    return {name: float(value) for name, value in facts.items()}


def _range(values: np.ndarray) -> dict[str, int | None]:
    return (
        {"least": int(values.min()), "largest": int(values.max())} if len(values) else {"least": None, "largest": None}
    )


def _said(spread: Mapping[str, float | None]) -> str:
    if spread["mean"] is None:
        return "none"
    return ", ".join(f"{name} {spread[name]:.4g}" for name in ("mean", "least", "median", "largest"))


def _missing(names: Sequence[str]) -> str:
    more = f" and {len(names) - 1:,} more, which `lssvwm data verify` names," if len(names) > 1 else ""
    return f"{names[0]}{more} {'are' if more else 'is'} not there; what was not removed on purpose is lost"


def _environment(env_spec: str | None) -> str | None:
    try:
        return None if env_spec is None else str(json.loads(env_spec)["id"])
    except (ValueError, KeyError, TypeError):
        return None


def _actions(actions: list[np.ndarray], space: Any) -> list[dict[str, Any]]:
    """Of each component, how often which value was taken, or how a number of a Box is spread, in ten parts of its
    range."""
    if not actions:
        return []
    every = np.concatenate(actions)
    every = every.reshape(len(every), -1)
    if isinstance(space, spaces.Box):
        return [
            {**_spread(column), "counts": np.histogram(column, 10, range=(column.min(), column.max()))[0].tolist()}
            for column in every.T
        ]
    counts = [np.unique(column, return_counts=True) for column in every.T]
    return [{"counts": dict(zip(map(str, values.tolist()), n.tolist(), strict=True))} for values, n in counts]


def _histogram(actions: list[dict[str, Any]]) -> str:
    lines = []
    for number, facts in enumerate(actions[:SHOWN]):
        counts = facts["counts"]
        name = "action" if len(actions) == 1 else f"action {number}"
        if isinstance(counts, dict):
            lines.append(f"{name:<12} " + ", ".join(f"{value}: {n:,}" for value, n in counts.items()))
        else:
            lines.append(f"{name:<12} {_said(facts)}; in ten parts {' '.join(map(str, counts))}")
    if len(actions) > SHOWN:
        lines.append(f"and {len(actions) - SHOWN} more, which --json has")
    return "\n".join(lines)


def _bytes(store: EpisodeStore) -> dict[str, int]:
    shards = [path for path in store.path.glob("shard-*.zarr") if path.is_dir()]
    files = [file for file in store.path.rglob("*") if file.is_file()]
    frames = [file for file in files if "frames" in relative(file, store.path).split("/")]
    return {
        "shards": len(shards),
        "on_disk": sum(size_of(file) or 0 for file in files),
        "frames_on_disk": sum(size_of(file) or 0 for file in frames),
        "frames_decoded": store.frame_bytes,
    }
