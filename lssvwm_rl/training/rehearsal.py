"""Rehearsal: a few more updates of the heads per batch, on what they read of recent batches.

What decides a reward or an end is in few frames, and often a product of two things that were seen: a head needs
hundreds of looks at such frames, and one update of the whole model costs as much as a hundred of a head.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lssvwm_rl.model.heads import ContinuationHead, Focus, RewardHead
from lssvwm_rl.training.optimizer import load_optimizer

KEPT = 8192  # frames
DRAWN = 512  # frames per update
FLOOR = 0.1  # added to losses, as a share of their mean, where frames are drawn by their losses
LEARNING_RATE = 1e-3


class Readings(NamedTuple):
    """What heads read from M frames, without gradients, and what they should have said."""

    features: Tensor
    """(M, R)."""
    rewards: Tensor
    """(M,)."""
    terminated: Tensor
    """(M,) bool."""
    losses: Tensor
    """(M,), of both heads together, when they were read."""


class Reading(NamedTuple):
    """What heads read from M frames of a batch, without gradients, and how far they erred."""

    features: Tensor
    """(M, R)."""
    rewards: Tensor
    """(M,)."""
    terminated: Tensor
    """(M,) bool."""
    reward_losses: Tensor
    """(M,)."""
    continuation_losses: Tensor
    """(M,)."""

    def readings(self) -> Readings:
        """To be rehearsed."""
        losses = self.reward_losses + self.continuation_losses
        return Readings(self.features, self.rewards, self.terminated, losses)


class Rehearsal:
    """Keeps the last readings, and updates the heads on draws of them.

    Frames are drawn by their losses and count by the inverse, so that what the heads learn is unbiased.
    """

    def __init__(
        self,
        reward: RewardHead,
        continuation: ContinuationHead,
        updates: int = 8,
        kept: int = KEPT,
    ):
        """
        Args:
            updates: per batch.
            kept: most frames that are kept.
        """
        self.heads, self.updates, self.limit = (reward, continuation), updates, kept
        self.parameters = [p for head in self.heads for p in head.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0)
        self.kept: Readings | None = None

    def look(self, reading: Reading) -> None:
        """Have each head's focus follow what it read where it erred."""
        for head, losses in zip(self.heads, (reading.reward_losses, reading.continuation_losses), strict=True):
            if isinstance(head.focus, Focus):
                head.focus.look(reading.features, losses)

    def go(self, fresh: Readings, rate: float, generator: torch.Generator) -> None:
        """`keep` what was read, and `update` the heads some times.

        Args:
            rate: of this moment's learning rate in the peak's.
            generator: on the readings' device.
        """
        self.keep(fresh)
        for _ in range(self.updates):
            self.update(rate, generator)

    def keep(self, fresh: Readings) -> None:
        """Keep what was read; the oldest is forgotten."""
        before = self.kept
        joined = fresh if before is None else Readings(*(torch.cat(p) for p in zip(before, fresh, strict=True)))
        self.kept = Readings(*(part[-self.limit :] for part in joined))

    def update(self, rate: float, generator: torch.Generator, drop: float = 0.0) -> None:
        """One update of the heads on a draw of what is kept.

        Args:
            rate, generator: as of `go`.
            drop: share of the standardised features that a head does not see, others in every draw (dropout).
        """
        assert self.kept is not None
        chance = self.kept.losses + FLOOR * self.kept.losses.mean() + 1e-9
        reward, continuation = self.heads
        for group in self.optimizer.param_groups:
            group["lr"] = rate * LEARNING_RATE
        rows = torch.multinomial(chance, DRAWN, replacement=True, generator=generator)
        drawn = Readings(*(part[rows] for part in self.kept))
        weight = chance.mean() / chance[rows]
        seen = [_without_some(head, drawn.features, drop, generator) if drop else drawn.features for head in self.heads]
        loss = reward.loss(seen[0], drawn.rewards, drawn.terminated) + continuation.loss(seen[1], drawn.terminated)
        self.optimizer.zero_grad()
        (weight * loss).mean().backward()
        self.optimizer.step()

    def state_dict(self) -> dict:
        """What `load_state_dict` takes, of tensors alone."""
        kept = {} if self.kept is None else dict(zip(Readings._fields, self.kept, strict=True))
        return {"optimizer": self.optimizer.state_dict(), "kept": kept}

    def load_state_dict(self, state: dict) -> None:
        """Go on from what was saved."""
        load_optimizer(self.optimizer, state["optimizer"], self.heads[0].ended)
        self.kept = Readings(**state["kept"]) if state["kept"] else None


def _without_some(
    head: RewardHead | ContinuationHead, features: Tensor, drop: float, generator: torch.Generator
) -> Tensor:
    """Dropout of what the head's focus makes of features: it is linear, so it can be done before."""
    mean = head.focus.mean if isinstance(head.focus, Focus) else torch.zeros_like(features[0])
    seen = torch.rand(features.shape, generator=generator, device=features.device) >= drop
    return mean + (features - mean) * seen / (1 - drop)
