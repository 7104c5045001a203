"""Frames of videos, of folders of images and of encoded images, one at a time; and as the frames of one episode."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image, UnidentifiedImageError

from lssvwm_rl.pictures import resized

VIDEOS = (".mp4", ".avi", ".gif", ".mov", ".mkv", ".webm", ".m4v")
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
SHARE_OF_MEMORY = 0.5  # of what is free, that the frames of one episode may take: writing needs them twice


@dataclass(frozen=True)
class FrameRule:
    """What all frames of a recording are like.

    Attributes:
        shape: (H, W, C) of the store's frames.
        resize: (H, W) if they are resized to it; then recorded ones may differ in size.
    """

    shape: tuple[int, int, int]
    resize: tuple[int, int] | None = None

    @classmethod
    def of(cls, first: np.ndarray, resize: tuple[int, int] | None) -> FrameRule:
        """That of a recording whose first frame is `first` (H, W, C).

        Raises:
            ValueError: if a size to resize to is no size.
        """
        if resize is None:
            height, width, channels = first.shape
            return cls((height, width, channels))
        if min(resize) < 1:
            raise ValueError(
                f"Frames cannot be resized to {resize[0]}x{resize[1]}; give a height and a width of at least 1."
            )
        return cls((*resize, first.shape[2]), resize)

    @classmethod
    def of_first(cls, frames: Iterator[np.ndarray], resize: tuple[int, int] | None, what: str) -> FrameRule:
        """As `of`, for the first of these frames.

        Raises:
            ValueError: as `of`, or if there is none.
        """
        first = next(frames, None)
        if first is None:
            raise ValueError(f"{what} has no frames; record or copy it again.")
        return cls.of(first, resize)

    def frame(self, frame: np.ndarray, what: str) -> np.ndarray:
        """A frame of that shape.

        Raises:
            ValueError: if it has another size, or other channels.
        """
        if self.resize is not None and frame.shape[2] == self.shape[2]:
            return frame if frame.shape[:2] == self.resize else resized(frame, self.resize)
        if frame.shape != self.shape:
            raise ValueError(
                f"{what} is {frame.shape[0]}x{frame.shape[1]} pixels, the frames before are "
                f"{self.shape[0]}x{self.shape[1]}; bring all to one size with --resize H W."
            )
        return frame

    def collect(self, frames: Iterator[np.ndarray], count: int, what: str) -> np.ndarray:
        """The frames of an episode, taken one at a time, so that only those of the store's size are in memory.

        Args:
            frames: as they were recorded.
            count: of them that are wanted; fewer are taken if there are fewer.
            what: they are of.

        Returns:
            (N, H, W, C) uint8, N up to `count`.

        Raises:
            ValueError: if they do not fit into memory, or one has another size.
        """
        free, needed = psutil.virtual_memory().available, count * math.prod(self.shape)
        if needed > SHARE_OF_MEMORY * free:
            raise ValueError(
                f"The {count:,} frames of {what} take {needed / 1e9:.1f} GB at {self.shape[0]}x{self.shape[1]} pixels, "
                f"and {free / 1e9:.1f} GB of memory are free; make them smaller with --resize H W, or cut the episode."
            )
        found = np.empty((count, *self.shape), np.uint8)
        taken = 0
        while taken < count and (frame := next(frames, None)) is not None:
            found[taken] = self.frame(frame, f"Frame {taken} of {what}")
            taken += 1
        return found[:taken]


def video_frames(path: Path) -> Iterator[np.ndarray]:
    """Frames (H, W, 3) uint8, RGB, of a video, decoded as they are asked for.

    Raises:
        ValueError: if it cannot be decoded, to its end.
    """
    return (frame for _, frame in timed_frames(path))


def timed_frames(path: Path) -> Iterator[tuple[float | None, np.ndarray]]:
    """As `video_frames`, with the seconds since the beginning at which each is shown.

    Raises:
        ValueError: if it cannot be decoded, to its end.
    """
    import av

    number = 0
    try:
        with av.open(str(path)) as container:
            stream = _first_pictures(container, path)
            stream.thread_type = "AUTO"
            # Some containers do not begin at 0.
            begin = float(stream.start_time * stream.time_base) if stream.start_time and stream.time_base else 0.0
            for frame in container.decode(stream):
                if frame.is_corrupt:
                    raise ValueError(f"Frame {number} of {path} is broken; record or copy that file again.")
                yield None if frame.time is None else frame.time - begin, frame.to_ndarray(format="rgb24")
                number += 1
    except (av.FFmpegError, OSError) as error:
        where = f"after {number} frames" if number else "at all"
        said = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"{path} cannot be decoded {where} ({said}); record or copy that file again.") from error


def packet_count(path: Path) -> int:
    """Frames of a video as its container counts them, without decoding: for almost all codecs as many as there are.

    Raises:
        ValueError: if it cannot be read.
    """
    with _pictures(path) as (container, stream):
        return sum(1 for packet in container.demux(stream) if packet.size)


def announced_count(path: Path) -> int:
    """Frames of a video as its header announces them, 0 if it does not: more than there are if the file was cut off.

    Raises:
        ValueError: if it cannot be read.
    """
    with _pictures(path) as (_, stream):
        return int(stream.frames)


@contextmanager
def _pictures(path: Path) -> Iterator[tuple[Any, Any]]:
    """An open video and its first stream of pictures."""
    import av

    try:
        with av.open(str(path)) as container:
            yield container, _first_pictures(container, path)
    except (av.FFmpegError, OSError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"{path} cannot be read as a video ({said}); record or copy that file again.") from error


def _first_pictures(container: Any, path: Path) -> Any:
    if not container.streams.video:
        raise ValueError(f"{path} has no pictures; remove it, or give the video.")
    return container.streams.video[0]


def visible(folder: Path) -> Iterator[Path]:
    """What lies in a folder and the folders in it, but for what begins with a dot, as copies of macOS's data do."""
    return (p for p in folder.rglob("*") if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def image_files(folder: Path) -> list[Path]:
    """The images that lie in a folder, in the order of their names, by the numbers in these."""
    found = (p for p in folder.iterdir() if p.suffix.lower() in IMAGES and not p.is_dir())
    return sorted((p for p in found if not p.name.startswith(".")), key=by_number)


def image_frames(files: list[Path]) -> Iterator[np.ndarray]:
    """Images (H, W, 3) uint8, RGB, of files.

    Raises:
        ValueError: if one is not an image.
    """
    for file in files:
        try:
            encoded = file.read_bytes()
        except OSError as error:
            raise ValueError(f"{file} cannot be read ({error.strerror}); record or copy it again.") from error
        yield decoded_image(encoded, str(file))


def decoded_image(data: bytes, what: str) -> np.ndarray:
    """An encoded image (H, W, 3) uint8, RGB.

    Raises:
        ValueError: if it is no image.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except UnidentifiedImageError as error:
        raise ValueError(f"{what} cannot be read as an image; record or copy it again.") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{what} cannot be read as an image ({error}); record or copy it again.") from error


def by_number(path: Path) -> list[tuple[int, int | str]]:
    """Sorts names as people count: ep2 before ep10."""
    parts = re.split(r"(\d+)", path.as_posix())
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts]
