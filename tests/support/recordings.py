"""Recordings as others make them: videos with tables, and data sets in LeRobot's layout of version 3."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from lssvwm_rl.cli import main

FFV1 = {"codec": "ffv1", "pix_fmt": "bgr0"}  # without loss
H264 = {"codec": "libx264", "pix_fmt": "yuv420p"}


def coded(steps: int, size: tuple[int, int] = (32, 48), number: int = 0) -> np.ndarray:
    """Frames (T+1, H, W, 3), of which frame t of recording `number` is a grey of its own: 40 number + 5 t."""
    shades = (40 * number + 5 * np.arange(steps + 1)).astype(np.uint8)
    return np.broadcast_to(shades[:, None, None, None], (steps + 1, *size, 3)).copy()


def shades(frames: np.ndarray) -> list[int]:
    """The mean of each frame, rounded to the next multiple of 5, of which codecs with loss miss none."""
    return (5 * np.round(frames.reshape(len(frames), -1).mean(axis=1) / 5)).astype(int).tolist()


def write_frames(
    path: Path, frames: np.ndarray, codec: str = "libx264", pix_fmt: str = "yuv420p", fps: int = 10, **options: str
) -> Path:
    """A video, in the container of the suffix, which has these options."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=Fraction(fps))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def write_table(path: Path, columns: dict[str, Sequence[Any]]) -> Path:
    """A CSV, or JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = list(zip(*columns.values(), strict=True))
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([list(columns), *rows])
    else:
        path.write_text("".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows))
    return path


def write_episode(folder: Path, name: str, steps: int, number: int = 0, **columns: Sequence[Any]) -> None:
    """`name`.mp4 and `name`.csv; the action of step t is t % 3, if not said otherwise."""
    write_frames(folder / f"{name}.mp4", coded(steps, number=number))
    table: dict[str, Sequence[Any]] = {"action": [t % 3 for t in range(steps)], **columns}
    write_table(folder / f"{name}.csv", table)


def write_lerobot(
    root: Path, lengths: Sequence[int], videos: Sequence[Sequence[int]] = (), version: str = "v3.0", fps: int = 10
) -> Path:
    """A data set of one camera, whose episodes have so many frames.

    Args:
        videos: numbers of the episodes in each video file, all in one if not given; of `[()]`, images are in the rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = [list(range(len(lengths)))] if not videos else [list(each) for each in videos]
    in_rows = files == [[]]
    features: dict[str, Any] = {
        "observation.images.front": {"dtype": "image" if in_rows else "video", "shape": [32, 48, 3], "names": None},
        "observation.state": {"dtype": "float32", "shape": [2], "names": None},
        "action": {"dtype": "float32", "shape": [2], "names": None},
        "next.reward": {"dtype": "float32", "shape": [1], "names": None},
    }
    where = [(k, ids.index(i)) for i in range(len(lengths)) for k, ids in enumerate(files) if i in ids]
    rows: dict[str, list[Any]] = {
        name: [] for name in (*features, "timestamp", "frame_index", "episode_index", "index")
    }
    episodes = []
    for i, n in enumerate(lengths):
        begin = len(rows["index"])
        for t in range(n):
            rows["observation.images.front"].append({"bytes": _png(coded(n - 1, number=i)[t]), "path": None})
            rows["observation.state"].append([float(i), float(t)])
            rows["action"].append([0.1 * t, -float(i)])
            rows["next.reward"].append(float(t == n - 2))
            rows["timestamp"].append(t / fps)
            rows["frame_index"].append(t)
            rows["episode_index"].append(i)
            rows["index"].append(begin + t)
        about: dict[str, Any] = {"episode_index": i, "tasks": ["walk"], "length": n, "data/chunk_index": 0}
        about |= {"data/file_index": 0, "dataset_from_index": begin, "dataset_to_index": begin + n}
        if not in_rows:
            file, place = where[i]
            start = sum(lengths[j] for j in files[file][:place]) / fps
            key = "videos/observation.images.front"
            about |= {f"{key}/chunk_index": 0, f"{key}/file_index": file, f"{key}/from_timestamp": start}
            about |= {f"{key}/to_timestamp": start + n / fps}
        episodes.append(about)
    for k, ids in enumerate(files if not in_rows else []):
        frames = np.concatenate([coded(lengths[i] - 1, number=i) for i in ids])
        write_frames(root / f"videos/observation.images.front/chunk-000/file-{k:03d}.mp4", frames, fps=fps)
    if not in_rows:
        del rows["observation.images.front"]
    for path, table in (("data", pa.table(rows)), ("meta/episodes", pa.Table.from_pylist(episodes))):
        (root / path / "chunk-000").mkdir(parents=True)
        pq.write_table(table, root / path / "chunk-000/file-000.parquet")
    info = {
        "codebase_version": version, "fps": fps, "features": features, "total_episodes": len(lengths),
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }  # fmt: skip
    (root / "meta/info.json").write_text(json.dumps(info))
    return root


def refused(folder: Path, capsys: Any, said: str, *words: str) -> None:
    """Importing `folder`/source ends with one sentence, and leaves nothing behind."""
    before = sorted(folder.rglob("*"))
    with pytest.raises(SystemExit) as stop:
        main(["data", "import", str(folder / "source"), "--out", str(folder / "out/store"), *words])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and said in error, error
    assert error.count("\n") == 1 and "Traceback" not in error and error.startswith("lssvwm data import: ")
    left = [path for path in folder.rglob("*") if path not in before and path.name != "out"]
    assert not left, "nothing is half-written"


def _png(frame: np.ndarray) -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(frame).save(file, "PNG")
    return file.getvalue()
