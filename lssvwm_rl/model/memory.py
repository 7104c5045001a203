"""Memory: everything the world model remembers, as a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor

from lssvwm_rl.files import written_whole
from lssvwm_rl.model.checkpoint_tensors import check_finite, load_tensors, save_tensors
from lssvwm_rl.model.sketch import read_out

PARTS = ("states", "keys", "values")  # of a layer, in files
FIXED = ("reservoir", "fast_weights")  # what is written by weights that are never trained


class LayerMemory(NamedTuple):
    """What one layer remembers; a part that its kind lacks is empty."""

    state: Tensor
    """(B, n_blocks, heads, P, N) float32, of the scan."""
    keys: Tensor
    """(B, k-1, h*w, heads, P) float32, of the window, oldest frame first; in a `causal` model of all frames that the
    longest row has seen."""
    values: Tensor
    """As the keys."""


@dataclass(frozen=True)
class Memory:
    """All that a model remembers of B rows, as tensors whose first dimension is B and that are never changed in place.

    Constant in size however long the history, but for `causal` models.
    """

    layers: tuple[LayerMemory, ...]
    """Of every layer."""
    features: Tensor
    """(B, R) float32 in [-1, 1], read from the last committed frame (zeros before the first), and then from the
    reservoir."""
    frames: Tensor
    """(B,) int64, frames committed since the episode began."""
    reservoir: tuple[Tensor, ...] = ()
    """Of every scan of the reservoir (B, n_blocks, heads, P) float32; none in models without one."""
    fast_weights: tuple[Tensor, ...] = ()
    """The last frame's codes and the matrices, see `fast_weights.States`; none in models without."""

    @property
    def batch_size(self) -> int:
        """Rows B."""
        return len(self.frames)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(t.nbytes for t in self.tensors().values())

    def readout(self) -> Tensor:
        """What policies read: (B, R') float32 in [-1, 1], `WorldModel.readout_size` numbers.

        The features, and for models without a reservoir, which is among them, a sketch of every layer's states:
        features tell what the heads need at this frame, but what was seen before is in them in a form that is hard to
        learn to read.
        """
        if self.reservoir:
            return self.features.clone()
        return read_out(self.features, {i: each.state for i, each in enumerate(self.layers) if each.state.shape[1]})

    def block_norms(self) -> tuple[Tensor, ...]:
        """Per layer the Frobenius norm of every block's state, (B, n_blocks), for display."""
        return tuple(layer.state.flatten(2).norm(dim=2) for layer in self.layers)

    def select(self, indices: Tensor) -> Memory:
        """Rows by index, (M,) int64; an index may occur several times."""
        return self._map(lambda t: t[indices.to(t.device)])

    def repeat(self, n: int) -> Memory:
        """Every row n times, copies of a row side by side: B*n rows."""
        return self._map(lambda t: t.repeat_interleave(n, dim=0))

    def where(self, mask: Tensor, other: Memory) -> Memory:
        """Rows of this memory where `mask` (B,) bool is True, rows of `other` elsewhere."""
        ours, theirs = _aligned([self, other])
        chosen = {
            name: torch.where(mask.to(t.device).view(-1, *[1] * (t.ndim - 1)), t, theirs[name])
            for name, t in ours.items()
        }
        return Memory.from_tensors(chosen)

    def put(self, rows: Tensor, other: Memory) -> Memory:
        """This memory with M of its rows, by index (M,) int64, replaced by the M rows of `other`."""
        ours, theirs = _aligned([self, other])
        return Memory.from_tensors({name: t.index_copy(0, rows.to(t.device), theirs[name]) for name, t in ours.items()})

    def overwrite(self, row: int, other: Memory) -> Memory:
        """`put` of a single row in place, for who alone holds a memory; caches that have to grow are new.

        Args:
            other: one row.
        """
        ours, theirs = _aligned([self, other])
        for name, tensor in ours.items():
            tensor[row].copy_(theirs[name][0])
        return Memory.from_tensors(ours)

    def clone(self) -> Memory:
        """A copy that shares no storage."""
        return self._map(torch.clone)

    def detach(self) -> Memory:
        """The same numbers, through which no gradient passes."""
        return self._map(torch.Tensor.detach)

    def to(self, device: torch.device | str) -> Memory:
        """On another device."""
        return self._map(lambda t: t.to(device))

    def tensors(self) -> dict[str, Tensor]:
        """Flat names, as saved: "features", "frames", and "states.0", "keys.0", "values.0", "reservoir.0",
        "fast_weights.0" and so on."""
        parts = zip(PARTS, zip(*self.layers, strict=True), strict=True)
        named = {f"{part}.{i}": t for part, stack in parts for i, t in enumerate(stack)}
        for part in FIXED:
            named |= {f"{part}.{i}": t for i, t in enumerate(getattr(self, part))}
        return {**named, "features": self.features, "frames": self.frames}

    @classmethod
    def concatenate(cls, memories: Sequence[Memory]) -> Memory:
        """Rows of several memories of one model, in order."""
        flat = _aligned(memories)
        return cls.from_tensors({name: torch.cat([tensors[name] for tensors in flat]) for name in flat[0]})

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Memory:
        """Inverse of `tensors`.

        Raises:
            ValueError: if one is missing.
        """

        count = sum(name.startswith(f"{PARTS[0]}.") for name in tensors)
        try:
            layers = tuple(LayerMemory(*(tensors[f"{part}.{i}"] for part in PARTS)) for i in range(count))
            counts = {part: sum(name.startswith(f"{part}.") for name in tensors) for part in FIXED}
            fixed = {part: tuple(tensors[f"{part}.{i}"] for i in range(counts[part])) for part in FIXED}
            return cls(layers, tensors["features"], tensors["frames"], **fixed)
        except KeyError as error:
            raise ValueError(f"These tensors are not a memory: {error} is missing.") from error

    def save(self, path: str | Path) -> None:
        """Write a safetensors file; appears whole or not at all."""
        with written_whole(path) as temporary:
            save_tensors(self.tensors(), temporary)

    @classmethod
    def load(cls, path: str | Path) -> Memory:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is broken, has changed since or is not a memory.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"There is no memory file {path}; write one with Memory.save.")
        try:
            tensors, _ = load_tensors(path)
            check_finite(tensors)
            return cls.from_tensors(tensors)
        except (SafetensorError, ValueError) as error:
            raise ValueError(f"{path} is not a whole file of a memory ({error}); save the memory again.") from error

    def _map(self, change: Callable[[Tensor], Tensor]) -> Memory:
        return Memory.from_tensors({name: change(t) for name, t in self.tensors().items()})


def _aligned(memories: Sequence[Memory]) -> list[dict[str, Tensor]]:
    """The memories' tensors, caches that have grown less filled up before their oldest frame."""
    flat = [m.tensors() for m in memories]
    for name in flat[0]:
        if name.startswith(("keys.", "values.")):
            longest = max(tensors[name].shape[1] for tensors in flat)
            for tensors in flat:
                missing = longest - tensors[name].shape[1]
                if missing:
                    tensors[name] = F.pad(tensors[name], (0, 0, 0, 0, 0, 0, missing, 0))
    return flat
