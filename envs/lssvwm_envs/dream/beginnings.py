"""Where dreams begin: the memory after a real context, observed once and kept."""

from __future__ import annotations

import functools
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lssvwm_rl.data.clips import clip_batch
from lssvwm_rl.data.store import Episode, EpisodeStore
from lssvwm_rl.model.engine import Engine
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.predict import OBSERVED, observe_batch

KEPT_BYTES = 512 * 2**20


@dataclass(frozen=True)
class Beginning:
    """One row after a context, on the model's device; a value, which many dreams may begin with."""

    memory: Memory
    frame: Tensor
    """(1, H, W, C) uint8, the last one seen."""

    @functools.cached_property
    def readout(self) -> Tensor:
        """(1, R') of the memory."""
        return self.memory.readout()

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return self.memory.nbytes + self.frame.nbytes


def observed(engine: Engine, context: Episode, before: Memory | None = None) -> Beginning:
    """The beginning after a context, which is observed alone: how its sums are rounded depends on nothing else.

    Args:
        before: what has seen the context's first frame, and what was before it.

    Raises:
        ValueError: if it does not fit the model.
    """
    memory, _ = observe_batch(engine, clip_batch([context], len(context.frames)), memory=before)
    frame = torch.from_numpy(np.ascontiguousarray(context.frames[-1:])).to(engine.model.device)
    return Beginning(memory, frame)


class Beginnings:
    """Those of one engine in real episodes; the ones that were used last are kept.

    Args:
        limit: bytes to be kept at most; the one used last is always kept.
    """

    def __init__(self, engine: Engine, limit: int = KEPT_BYTES):
        self.engine, self.limit = engine, limit
        self._kept: OrderedDict[tuple[tuple[str, int], int, int], Beginning] = OrderedDict()
        self._bytes = 0

    def after(self, contexts: EpisodeStore, version: tuple[str, int], episode: int, length: int) -> Beginning:
        """After the first `length` frames of an episode. Of a long history only the last few are observed, if what is
        before them was kept.

        Args:
            version: which contexts these are; what was kept of others is not used.
        """
        key = version, episode, length
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = self._observed(contexts, version, episode, length)
            self._bytes += found.nbytes
            while self._bytes > self.limit and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        self._kept.move_to_end(key)
        return found

    def _observed(self, contexts: EpisodeStore, version: tuple[str, int], episode: int, length: int) -> Beginning:
        before = (length - 1) // OBSERVED * OBSERVED  # where the last chunk begins, were all frames observed at once
        if not before:
            return observed(self.engine, contexts.read(episode, 0, length))
        memory = self.after(contexts, version, episode, before).memory
        return observed(self.engine, contexts.read(episode, before - 1, length), memory)
