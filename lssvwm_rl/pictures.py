"""Videos, stills and strips of frames."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from PIL import Image

from lssvwm_rl.files import written_whole

MIN_HEIGHT = 224  # pixels; smaller frames are enlarged by whole factors, which keeps pixel art sharp
FPS = 8


def write_video(path: str | Path, frames: np.ndarray, fps: int = FPS) -> None:
    """Write (T, H, W, C) uint8 as mp4 or gif, by the suffix; appears whole or not at all.

    Raises:
        ValueError: for another suffix.
    """
    path = Path(path)
    if path.suffix not in (".mp4", ".gif"):
        raise ValueError(
            f"Videos are written as .mp4 or .gif, not {path.suffix or 'without a suffix'!r}; rename {path}."
        )
    with written_whole(path) as temporary:
        if path.suffix == ".mp4":
            iio.imwrite(temporary, enlarge(frames, even=True), plugin="pyav", codec="libx264", fps=fps)
        else:
            temporary.write_bytes(gif(frames, fps))


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 as png; appears whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_bytes(png(image))


def frame_strip(frames: np.ndarray, columns: int, gap: int = 2) -> np.ndarray:
    """Lay (T, H, W, C) frames out in rows of `columns`, white gaps between: one uint8 image."""
    T, H, W, C = frames.shape
    rows = math.ceil(T / columns)
    image = np.full((rows * (H + gap) - gap, columns * (W + gap) - gap, C), 255, np.uint8)
    for t, frame in enumerate(frames):
        y, x = t // columns * (H + gap), t % columns * (W + gap)
        image[y : y + H, x : x + W] = frame
    return image


def enlarge(frames: np.ndarray, even: bool = False) -> np.ndarray:
    """Repeat pixels until frames (T, H, W, C) are at least `MIN_HEIGHT` high; video codecs need `even` sizes."""
    factor = max(1, math.ceil(MIN_HEIGHT / frames.shape[1]))
    if even and factor % 2 and (frames.shape[1] % 2 or frames.shape[2] % 2):
        factor += 1
    frames = frames.repeat(factor, axis=1).repeat(factor, axis=2)
    return frames.repeat(3, axis=3) if frames.shape[3] == 1 else frames[..., :3]


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image (H, W, C) uint8 of another `size` (height, width); each pixel is the mean of those that it covers, or
    the nearest one. Each channel alone: Pillow would weigh colours by what it takes for opacity."""
    height, width = size
    channels = [Image.fromarray(np.ascontiguousarray(image[..., c])) for c in range(image.shape[2])]
    scaled = [np.asarray(channel.resize((width, height), Image.Resampling.BOX)) for channel in channels]
    return np.stack(scaled, axis=-1)


def png(image: np.ndarray) -> bytes:
    """(H, W, 3) uint8 as the bytes of a PNG."""
    settings: dict[str, Any] = {"extension": ".png"}
    return iio.imwrite("<bytes>", image, **settings)


def gif(frames: np.ndarray, fps: int) -> bytes:
    """Frames (T, H, W, C) uint8, enlarged, as the bytes of a GIF that plays for ever."""
    settings: dict[str, Any] = {"extension": ".gif", "duration": 1000 / fps, "loop": 0}
    return iio.imwrite("<bytes>", enlarge(frames), **settings)
