"""Charts and pictures inside HTML: SVG whose colours follow the page, and images and videos as data URIs."""

from __future__ import annotations

import base64
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as iio
import matplotlib
import numpy as np
from markupsafe import Markup

from lssvwm_rl.pictures import write_video

WIDTH, HEIGHT = 460, 250  # units of a chart; the page scales it
LEFT, RIGHT, TOP, BOTTOM = 58, 20, 12, 42
BROAD = 820  # units of a heat map
DECADES = 6  # of a logarithmic scale at most; what is less lies at its end
COLORS = 4  # --c0 to --c3 of the page


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        name: for the legend.
        points: (x, y), of which those that are not finite are left out.
        dashed: for what is compared with.
        errors: half the height of a bar at each point, if known.
    """

    name: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False
    errors: Sequence[float] | None = None


@dataclass(frozen=True)
class Axes:
    """Labels and scales of a chart."""

    x: str
    y: str
    """Empty where a heading says it."""
    log_x: bool = False
    log_y: bool = False
    y_range: tuple[float, float] | None = None
    """What is shown at least; else what there is."""


def line_chart(lines: Sequence[Line], axes: Axes, dots: bool = False) -> Markup:
    """An SVG with a legend if there are several lines; a sentence if there is no finite point."""
    shown = [(line, [p for p in line.points if math.isfinite(p[0]) and math.isfinite(p[1])]) for line in lines]
    points = [p for _, each in shown for p in each]
    if not points:
        return Markup('<p class="none">No finite value yet.</p>')
    x = _Scale([p[0] for p in points], axes.log_x, LEFT, WIDTH - RIGHT)
    y = _Scale([*(p[1] for p in points), *(axes.y_range or ())], axes.log_y, HEIGHT - BOTTOM, TOP, margin=0.05)
    parts = [_grid(x, y, axes)]
    for k, (line, each) in enumerate(shown):
        style = f"s{k % COLORS}{' dashed' if line.dashed else ''}"
        places = [(x(a), y(b)) for a, b in each]
        parts.append(
            Markup('<polyline class="line {}" points="{}"/>').format(
                style, " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
            )
        )
        if line.errors is not None:
            parts += [_error_bar(x(a), y(b - e), y(b + e), style) for (a, b), e in zip(each, line.errors, strict=True)]
        if dots or len(places) == 1:
            parts += [
                Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="3"/>').format(style, *p) for p in places
            ]
    title = f"{', '.join(line.name for line in lines)} against {axes.x}"
    chart = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, title, Markup("").join(parts)
    )
    return chart + (_legend(lines) if len(lines) > 1 else Markup(""))


def heat_map(values: np.ndarray, rows: Sequence[str], x: str) -> Markup:
    """An SVG of values (R, T) in [0, 1], a named row each, over T times."""
    pixels = (matplotlib.colormaps["inferno"](np.clip(values, 0, 1))[..., :3] * 255).astype(np.uint8)
    height, (count, times) = max(8, min(20, 420 // len(rows))), values.shape
    bottom = TOP + height * count
    parts = [
        Markup(
            '<image class="pixels" x="{}" y="{}" width="{}" height="{}" preserveAspectRatio="none" href="{}"/>'
        ).format(LEFT, TOP, BROAD - LEFT - RIGHT, height * count, png_uri(pixels))
    ]
    last = None
    for k, name in enumerate(rows):
        if name != last:  # named once per group
            parts.append(_text(LEFT - 6, TOP + height * k + 12, name, "end"))
        last = name
    for tick in _ticks(0, max(1, times - 1), False):
        at = LEFT + (tick + 0.5) / times * (BROAD - LEFT - RIGHT)
        parts.append(_text(at, bottom + 14, f"{tick:g}", "middle"))
    parts.append(_text((LEFT + BROAD - RIGHT) / 2, bottom + 30, x, "middle"))
    return Markup(
        '<svg class="chart broad" viewBox="0 0 {} {}" role="img" aria-label="heat map over {}">{}</svg>'
    ).format(BROAD, bottom + 36, x, Markup("").join(parts))


def png_uri(pixels: np.ndarray) -> str:
    """A data URI of an image (H, W, 3) uint8."""
    return _uri("image/png", iio.imwrite("<bytes>", pixels, extension=".png"))


def video(frames: np.ndarray, caption: str) -> Markup:
    """A figure that plays frames (T, H, W, C) uint8 for ever; MP4 as `pictures.write_video` makes it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        write_video(path, frames)
        source = _uri("video/mp4", path.read_bytes())
    return Markup(
        '<figure><video src="{}" autoplay muted loop playsinline controls></video><figcaption>{}</figcaption></figure>'
    ).format(source, caption)


def video_file(path: Path, caption: str) -> Markup:
    """A figure that plays an MP4 file."""
    return Markup(
        '<figure><video src="{}" autoplay muted loop playsinline controls></video><figcaption>{}</figcaption></figure>'
    ).format(_uri("video/mp4", path.read_bytes()), caption)


def picture(pixels: np.ndarray, caption: str) -> Markup:
    """A figure with an image (H, W, 3) uint8, whose pixels stay sharp."""
    return Markup('<figure><img class="pixels" alt="{}" src="{}"><figcaption>{}</figcaption></figure>').format(
        caption, png_uri(pixels), caption
    )


class _Scale:
    """Values to places between two ends."""

    def __init__(self, values: Sequence[float], log: bool, start: float, end: float, margin: float = 0.0) -> None:
        # Over less than half a decade, round numbers are further apart on a logarithmic scale than the curve is long.
        self.log = log and min(values) > 0 and max(values) > 3 * min(values)
        low, high = (math.log10(v) if self.log else v for v in (min(values), max(values)))
        low = max(low, high - DECADES) if self.log else low
        spare = margin * (high - low) or (0.0 if high > low else abs(high) * 0.1 or 1.0)
        self.low, self.high, self.start, self.end = low - spare, high + spare, start, end

    def __call__(self, value: float) -> float:
        at = math.log10(value) if self.log else value
        share = max(0.0, (at - self.low) / (self.high - self.low))
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        return _ticks(self.low, self.high, self.log)


def _ticks(low: float, high: float, log: bool) -> list[float]:
    """About five round numbers; of logarithms those of 1, 2 and 5 or, over many decades, of powers of ten."""
    if log:
        steps = (1, 2, 5) if high - low < 2 else (1,)
        every = max(1, math.ceil((high - low) / 6))
        decades = range(math.floor(low), math.ceil(high) + 1, every)
        found = [factor * 10.0**k for k in decades for factor in steps if low <= k + math.log10(factor) <= high]
        if len(found) > 1:
            return found
        return [10.0**low, 10.0**high]
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _grid(x: _Scale, y: _Scale, axes: Axes) -> Markup:
    parts = []
    for tick in y.ticks():
        at = y(tick)
        parts.append(Markup('<path class="rule" d="M{} {:.1f}H{}"/>').format(LEFT, at, WIDTH - RIGHT))
        parts.append(_text(LEFT - 6, at + 4, _short(tick), "end"))
    for tick in x.ticks():
        parts.append(_text(x(tick), HEIGHT - BOTTOM + 16, _short(tick), "middle"))
    parts.append(Markup('<path class="axis" d="M{} {}H{}"/>').format(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, axes.x, "middle"))
    if not axes.y:
        return Markup("").join(parts)
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        Markup('<text transform="translate(13 {:.1f}) rotate(-90)" text-anchor="middle">{}</text>').format(
            middle, axes.y
        )
    )
    return Markup("").join(parts)


def _error_bar(x: float, low: float, high: float, style: str) -> Markup:
    return Markup('<path class="line {}" d="M{:.1f} {:.1f}V{:.1f}"/>').format(style, x, low, high)


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(x, y, anchor, text)


def _legend(lines: Sequence[Line]) -> Markup:
    names = [
        Markup('<span><i class="key k{}{}"></i>{}</span>').format(
            k % COLORS, " dashed" if line.dashed else "", line.name
        )
        for k, line in enumerate(lines)
    ]
    return Markup('<div class="legend">{}</div>').format(Markup("").join(names))


def _short(value: float) -> str:
    """A number for a tick."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            size = 1e3 if letter == "k" else size
            return f"{value / size:.4g}{letter}"
    return f"{value:.0e}" if 1e-12 < abs(value) < 1e-3 else f"{value:.4g}" if abs(value) >= 1e-3 else "0"


def _uri(kind: str, data: bytes | None) -> str:
    return f"data:{kind};base64,{base64.b64encode(data or b'').decode()}"
