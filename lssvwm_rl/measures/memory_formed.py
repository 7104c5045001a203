"""Whether memory formed: what a model predicts with its memory and with the memory wiped, and one sentence about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

MIN_FRAMES = 8  # fewer say nothing
CLEAR = 3.0  # standard errors
MIN_GAIN = 1.0  # dB
MIN_ACCURACY = 0.05


@dataclass(frozen=True)
class Contrast:
    """A score with memory and with memory wiped, of the same frames."""

    memory: float
    wiped: float
    frames: int
    certainty: float
    """By how many of its standard errors the mean squared error is smaller with memory."""

    @property
    def gain(self) -> float:
        """What memory adds to the score."""
        return self.memory - self.wiped

    @property
    def clear(self) -> bool:
        """Whether what memory adds is more than chance."""
        return self.frames >= MIN_FRAMES and self.certainty > CLEAR

    @property
    def tells(self) -> bool:
        """Of an accuracy: whether memory helps."""
        return self.clear and self.gain >= MIN_ACCURACY


def certainty(differences: np.ndarray, classes: np.ndarray) -> float:
    """The mean of differences (N,) float64 over its standard error, classes (N,) bool weighing the same; if all of a
    class are equal, infinite or 0."""
    groups = [differences[classes == value] for value in np.unique(classes)]
    mean = float(np.mean([group.mean() for group in groups]))
    variance = sum(float(group.var()) / max(1, len(group) - 1) for group in groups) / len(groups) ** 2
    if variance > 0:
        return mean / variance**0.5
    return float("inf") if mean > 0 else 0.0


@dataclass(frozen=True)
class MemoryFormed:
    """What a model remembers.

    A wiped model has seen the last `window` frames only. It is at its worst where it starts inside of an episode and
    was trained on whole ones; pixels count as remembered only if memory helps them more than those in the window.

    Attributes:
        kind: of the backbone.
        window: frames, the own one included, that the wiped model sees.
        reach: frames that attention passes on through all layers, the own one included; None if there is no limit.
        frames: that have something beyond the window.
        of: whose episodes these are, "held-out" or "training".
        recall: PSNR in dB of pixels that return after having left the window; None if too few frames have any.
        ages: the same by how many frames ago they were last in view, (from, to) -> contrast.
        explained: PSNR in dB, on the same frames, of pixels whose look is in the window; None without any.
        reward: balanced accuracy of telling high from low rewards; None if none differ.
        ended: balanced accuracy of telling ends of episodes; None if there are too few.
        reward_reach: rewards are told better by what was seen before the last so many frames; 0 if they are not.
    """

    kind: str
    window: int
    reach: int | None
    frames: int
    of: str = "held-out"
    recall: Contrast | None = None
    ages: Mapping[tuple[int, int], Contrast] = field(default_factory=dict)
    explained: Contrast | None = None
    reward: Contrast | None = None
    ended: Contrast | None = None
    reward_reach: int = 0

    @property
    def farthest(self) -> int:
        """Frames after which pixels that return are still remembered; 0 if none are."""
        return max((to for (_, to), contrast in self.ages.items() if self._helps(contrast)), default=0)

    @property
    def formed(self) -> bool:
        """Whether something beyond the reach of a window is remembered."""
        told = [each for each in (self.reward, self.ended) if each is not None]
        return self.kind != "window" and (self._recalls or any(each.tells for each in told))

    def figures(self) -> dict[str, float]:
        """For the learning curve; which there are depends on the episodes alone."""
        named = {"recall_psnr": self.recall, "reward_accuracy": self.reward, "end_accuracy": self.ended}
        figures: dict[str, float] = {}
        for name, contrast in named.items():
            if contrast is not None:
                figures |= {f"memory_{name}": contrast.memory, f"memory_{name}_wiped": contrast.wiped}
        for (nearest, _), contrast in self.ages.items():
            figures[f"memory_recall_gain_from_{nearest}"] = contrast.gain
        return figures if self.reward is None else {**figures, "memory_reward_reach": float(self.reward_reach)}

    def sentence(self) -> str:
        """What the model remembers, how far back, and what to try if it does not."""
        if not self.frames:
            return f"Nothing to remember: no {self.of} episode is longer than the window of {self.window} frames."
        if self.kind == "window":
            return (
                f"No memory: a model of kind 'window' keeps nothing beyond the {self.reach} frames that its attention "
                "reaches; train another --kind."
            )
        if self.formed:
            return f"Memory formed: {'; '.join(self._remembered())}{self._caveat()}."
        if self.recall is None and not (_open(self.reward) or _open(self.ended)):
            return (
                f"Too little in these {self.of} episodes returns after leaving the window of {self.window} frames, and "
                "rewards do not depend on the past, so memory cannot be seen in them."
            )
        return (
            f"No memory formed: beyond its window of {self.window} frames the model predicts {self.of} episodes no "
            "better than without memory; train longer, use longer clips (--span) or collect episodes that return to "
            "what they saw."
        )

    @property
    def _recalls(self) -> bool:
        return self.recall is not None and self._helps(self.recall)

    def _helps(self, contrast: Contrast) -> bool:
        """Whether memory helps pixels, and more than where it cannot be needed."""
        control = 0.0 if self.explained is None else max(0.0, self.explained.gain)
        return contrast.clear and contrast.gain > control + MIN_GAIN

    def _remembered(self) -> list[str]:
        parts, reward, ended = [], self.reward, self.ended
        if reward is not None and reward.tells:
            seen = f"what was seen before the last {self.reward_reach} frames"
            parts.append(f"rewards that depend on {seen} are {_rates(reward)}")
        if ended is not None and ended.tells:
            parts.append(f"ends of episodes that depend on what left the window are {_rates(ended)}")
        if self.recall is not None and self._recalls:
            after = f"after up to {self.farthest} frames " if self.farthest else ""
            parts.append(f"what returns {after}is predicted {self.recall.gain:.1f} dB better than without memory")
        return parts

    def _caveat(self) -> str:
        """Where a window through many layers would do as well."""
        if self.reach is None or max(self.farthest, self.reward_reach) >= self.reach:
            return ""
        return f" (attention alone could pass on {self.reach} frames through all layers)"


def memory_note(figures: Mapping[str, float]) -> str:
    """A few words of figures for a progress line, empty if there are none."""
    parts = []
    if "memory_recall_psnr" in figures:
        parts.append(f"{figures['memory_recall_psnr'] - figures['memory_recall_psnr_wiped']:+.1f} dB")
    if "memory_reward_accuracy" in figures:
        parts.append(f"reward {figures['memory_reward_accuracy']:.2f} / {figures['memory_reward_accuracy_wiped']:.2f}")
    return f"memory {', '.join(parts)}" if parts else ""


def _open(contrast: Contrast | None) -> bool:
    """Whether the window leaves open which of two classes it is."""
    return contrast is not None and contrast.wiped < 1 - MIN_ACCURACY


def _rates(contrast: Contrast) -> str:
    return f"predicted with {contrast.memory:.0%} accuracy, {contrast.wiped:.0%} without memory"
