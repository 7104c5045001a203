"""What paired histories showed, as a table and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lssvwm_bench.figures import NONE, PREDICTOR, markdown_table, predictor_cells
from lssvwm_rl.data.pairs import Pair
from lssvwm_rl.measures.paired import CHANGES, EXCHANGED, RIGHT, WIPED, Answers

COMPARED = (("reward", "reward or end"), ("frames", "frame"))
COLUMNS = {RIGHT: "from its memory", EXCHANGED: "window exchanged", WIPED: "memory wiped"}
SHOWN = 1  # pairs of each sort
SIZE = 1.5  # inches of a picture


def paired_table(results: Mapping[str, Any]) -> str:
    """Markdown: a line for every model and for what was compared, and a caption that says what the shares are.

    Args:
        results: "worlds", "reach", "agreement" (median of the frames that agree) and "rows", each of which has what
            `lineup.described` says and the `PairedShares` as "reward" and "frames".
    """
    head = [*PREDICTOR, "compared", "pairs", "right", "follows the exchanged memory", "wiped"]
    lines = []
    for row in results["rows"]:
        for key, name in COMPARED:
            shares = row[key]
            values = [NONE] * 3 if shares is None else [f"{shares[change]:.3f}" for change in CHANGES]
            lines.append([*predictor_cells(row), name, "0" if shares is None else str(shares["pairs"]), *values])
    caption = (
        f"{results['worlds']} worlds and their twins. Histories of a pair differ in one thing, and agree in the "
        f"{results['reach'] - 1} frames before the compared one (in the median {results['agreement']:g}). Right: share "
        "of outputs that are nearer to the history's own reality than to the other's; of what does not depend on the "
        "thing it is 0.5. Exchanged: with the window of the other history, share that follow the rest of the memory. "
        "Wiped: with nothing but the window."
    )
    return f"{markdown_table(head, lines)}\n\n{caption}"


def paired_figure(pairs: Sequence[Pair], name: str, answers: Mapping[str, Answers]) -> Figure:
    """Some pairs, a row for each history: where they last differed, reality at the compared frame, and what a model
    says from its memory, with the window of the other history, and with nothing but the window.

    Args:
        name: of the model.
        answers: as `measures.paired.paired_answers` gives them.
    """
    shown = [i for sort in (True, False) for i in [i for i, p in enumerate(pairs) if p.in_frame == sort][:SHOWN]]
    columns = 2 + len(CHANGES)
    figure = Figure(figsize=(SIZE * 1.15 * columns, SIZE * 1.3 * 2 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(2 * len(shown), columns, squeeze=False)
    for k, i in enumerate(shown):
        pair = pairs[i]
        for side, episode in enumerate((pair.first, pair.second)):
            line = grid[2 * k + side]
            _show(line[0], episode.frames[-2 - pair.agreement], f"{pair.agreement + 1} frames before")
            line[0].set_ylabel(f"pair {k + 1}, history {'ab'[side]}", fontsize=8)
            real = float(episode.rewards[-1]), float(episode.terminated)
            _show(line[1], episode.frames[-1], _titled("reality", pair, *real))
            for axes, change in zip(line[2:], CHANGES, strict=True):
                each = answers[change]
                said = float(each.reward[side, i]), float(each.terminated[side, i])
                _show(axes, each.frames[side, i], _titled(COLUMNS[change], pair, *said))
    figure.suptitle(name, fontsize=10)
    return figure


def _titled(title: str, pair: Pair, reward: float, terminated: float) -> str:
    """With what differs where frames do not."""
    return title if pair.in_frame else f"{title}\nreward {reward:.2f}, end {terminated:.2f}"


def _show(axes: Axes, frame: np.ndarray, title: str) -> None:
    axes.imshow(
        frame.squeeze(axis=-1) if frame.shape[-1] == 1 else frame[..., :3], cmap="gray", interpolation="nearest"
    )
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=7)
