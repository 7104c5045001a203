"""Random clips from stores, against a memory-mapped file of the same frames, and Minari if it is installed.

    python benchmarks/speed/clips.py [--env lssvwm/MemoryMaze-9x9-v0] [--episodes 16] [--turns 25]

All ways give the same batches of frames, in turns; a share is the median over turns of the time of the memory-mapped
file, which is in the file cache, over the time of a way.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tyro
import zarr

from lssvwm_bench.figures import markdown_table
from lssvwm_bench.stopwatch import interleaved, speedup
from lssvwm_envs.explorers import explorer_named
from lssvwm_envs.make import image_envs
from lssvwm_rl.data import arrays
from lssvwm_rl.data.clips import ClipSampler
from lssvwm_rl.data.collect import collect
from lssvwm_rl.data.episode import Episode
from lssvwm_rl.data.store import EpisodeStore, EpisodeWriter

Places = list[tuple[int, int]]


@dataclass(frozen=True)
class Args:
    """Of what, and how much."""

    env: str = "lssvwm/MemoryMaze-9x9-v0"
    """Gymnasium id."""
    policy: str = "explore"
    """Name of the explorer that plays."""
    episodes: int = 16
    """That are collected."""
    span: int = 128
    """Frames of a clip."""
    batch: int = 16
    """Clips of a batch."""
    turns: int = 25


def main(args: Args) -> None:
    """Print a table.

    Raises:
        ValueError: if no episode has a clip of that length.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = collect(image_envs(args.env), explorer_named(args.policy), folder / "store", args.episodes, 16)
        long = [k for k, length in enumerate(store.lengths.tolist()) if length + 1 >= args.span]
        if not long:
            raise ValueError(f"No episode has {args.span} frames; use --span {int(store.lengths.max()) + 1} or less.")
        sizes: dict[str, float] = {}
        reads = _ways(folder, store, sizes)
        places: Places = []
        rng = np.random.default_rng(0)

        def draw() -> None:
            episodes = [long[k] for k in rng.integers(len(long), size=args.batch)]
            places[:] = [(k, int(rng.integers(store.lengths[k] + 2 - args.span))) for k in episodes]

        draw()
        batches = {name: partial(_batch, read, places, args.span) for name, read in reads.items()}
        expected = batches["memmap"]()
        assert all(np.array_equal(batch(), expected) for batch in batches.values())
        times: dict[str, list[float]] = {name: [] for name in batches}
        for _ in range(args.turns):
            draw()
            for name, seconds in interleaved(batches, 1).items():
                times[name] += seconds
    shape = f"{args.batch} clips of {args.span} frames of {'x'.join(map(str, store.header.frame_shape))}"
    print(f"{args.env}, batches of {shape}, {args.turns} turns, {os.cpu_count()} CPUs\n")
    rows = [
        [name, f"{args.batch / median(t):,.0f}", f"{100 * speedup(times['memmap'], t):.1f} %", f"{sizes[name]:,.0f}"]
        for name, t in times.items()
    ]
    print(markdown_table(["way", "clips per second", "of memmap", "bytes per frame"], rows))


def _batch(read: Callable[[int, int, int], np.ndarray], places: Places, span: int) -> np.ndarray:
    return np.stack([read(k, start, start + span) for k, start in places])


def _ways(folder: Path, store: EpisodeStore, sizes: dict[str, float]) -> dict[str, Any]:
    """Name -> frames of an episode from a first one to a last one; fills in their bytes per frame."""
    episodes = list(store)
    frames = np.concatenate([episode.frames for episode in episodes])
    begins = np.cumsum([0, *(len(episode.frames) for episode in episodes)])
    np.save(folder / "frames.npy", frames)
    mapped = np.load(folder / "frames.npy", mmap_mode="r")
    ways: dict[str, Any] = {"memmap": lambda k, a, b: np.array(mapped[begins[k] + a : begins[k] + b])}
    sizes["memmap"] = frames[0].nbytes

    def add(name: str, read: Any, files: Path) -> None:
        ways[name] = read
        sizes[name] = sum(path.stat().st_size for path in files.rglob("*") if path.is_file()) / len(frames)

    decoded = ClipSampler(store, 2, 1, 0).episodes_of
    add("store, decoded in memory", lambda k, a, b: decoded.read(k, a, b).frames, store.path)
    add("store", lambda k, a, b: store.read(k, a, b).frames, store.path)
    for name, up_to in (("Zstandard", 0.0), ("LZ4", np.inf)):
        own = _written_anew(folder / name, store, episodes, up_to)
        add(f"store, {name}", lambda k, a, b, own=own: own.read(k, a, b).frames, own.path)
        by_zarr: Any = zarr.open_group(own.path / "shard-00000.zarr", mode="r")["frames"]
        add(f"the same, read by Zarr, {name}", lambda k, a, b, z=by_zarr: z[begins[k] + a : begins[k] + b], own.path)
    try:
        os.environ["MINARI_DATASETS_PATH"] = str(folder / "minari")
        add("Minari, lossless", _minari(store, episodes), folder / "minari")
    except ImportError:
        pass
    return ways


def _written_anew(path: Path, store: EpisodeStore, episodes: Sequence[Episode], up_to: float) -> EpisodeStore:
    """A copy as one shard, by the one or the other way to compress."""
    usual, arrays.QUICK_UP_TO = arrays.QUICK_UP_TO, up_to
    try:
        with EpisodeWriter(path, store.header, shard_episodes=len(episodes)) as writer:
            for episode in episodes:
                writer.add(episode)
    finally:
        arrays.QUICK_UP_TO = usual
    return EpisodeStore(path)


def _minari(store: EpisodeStore, episodes: Sequence[Episode]) -> Callable[[int, int, int], np.ndarray]:
    import gymnasium as gym
    import minari
    from minari.data_collector import EpisodeBuffer

    from lssvwm_rl.spaces import space_from_json

    buffers = [
        EpisodeBuffer(
            id=k,
            observations=list(episode.frames),
            actions=list(episode.actions),
            rewards=episode.rewards.tolist(),
            terminations=[False] * (len(episode) - 1) + [episode.terminated],
            truncations=[False] * (len(episode) - 1) + [episode.truncated],
        )
        for k, episode in enumerate(episodes)
    ]
    dataset = minari.create_dataset_from_buffers(
        "clips-v0",
        buffers,
        observation_space=gym.spaces.Box(0, 255, store.header.frame_shape, np.uint8),
        action_space=space_from_json(store.header.action_space),
        jpeg_encoding=False,
    )
    return lambda k, a, b: dataset[k].observations[a:b]


if __name__ == "__main__":
    main(tyro.cli(Args))
