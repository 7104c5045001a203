"""Action sequences as a tree: what begins alike is unrolled once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Level:
    """One step of all sequences of a tree: M distinct prefixes that end with it."""

    parent: Tensor
    """(M,) int64, the prefix of the level before that each goes on from; at the first level, the row."""
    row: Tensor
    """(M,) int64, the row that each belongs to."""
    action: Tensor
    """(M,) or (M, A), the last action of each."""
    straight: bool
    """Whether the parents are all prefixes of the level before, or all rows, in their order."""


@dataclass(frozen=True)
class Tree:
    """Some sequences of some rows, sorted, in the levels of their steps."""

    levels: tuple[Level, ...]
    """One for each step; no level has more prefixes than there are sequences, and the last has one for each."""

    @property
    def rows(self) -> list[int]:
        """Those that the sequences belong to."""
        return self.levels[0].row.unique_consecutive().tolist()


def distinct(actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The distinct sequences of every row, sorted, so that those which begin alike stand together.

    Args:
        actions: (B, S, horizon[, A]).

    Returns:
        Rows (M,) int64, sequences (M, horizon[, A]), and where in them every given one is, (B * S,) int64.
    """
    B, S = actions.shape[:2]
    row = torch.arange(B, device=actions.device).repeat_interleave(S)
    order = torch.arange(B * S, device=actions.device)
    flat = actions.flatten(2).flatten(0, 1)
    for column in reversed([row, *flat.unbind(1)]):  # from the last number to the first, by a sort that is stable
        order = order[column[order].argsort(stable=True)]
    row, flat = row[order], flat[order]
    new = torch.ones(B * S, dtype=torch.bool, device=actions.device)
    new[1:] = (row[1:] != row[:-1]) | (flat[1:] != flat[:-1]).any(1)
    place = torch.empty_like(order).scatter_(0, order, new.cumsum(0) - 1)
    return row[new], flat[new].view(-1, *actions.shape[2:]), place


def trees(rows: Tensor, sequences: Tensor, most: int) -> Iterator[Tree]:
    """Sorted sequences, at most `most` at a time, as trees of their prefixes.

    Args:
        rows, sequences: of `distinct`; every row has sequences.
        most: at least 1.
    """
    for row, moves in zip(rows.split(most), sequences.split(most), strict=True):
        before, width, levels = row, int(rows[-1]) + 1, list[Level]()
        new = torch.ones(len(row), dtype=torch.bool, device=row.device)
        new[1:] = row[1:] != row[:-1]
        for action in moves.unbind(1):
            differs = action[1:] != action[:-1]
            new = new.clone()
            new[1:] |= differs if differs.ndim == 1 else differs.any(1)
            parent = before[new]
            # Every prefix of the level before has one that goes on from it: as many as these are these. So are as many
            # rows as there are, unless some go on twice while others are in another tree.
            straight = len(parent) == width and (bool(levels) or len(parent.unique_consecutive()) == width)
            levels.append(Level(parent, row[new], action[new], straight))
            before, width = new.cumsum(0) - 1, len(parent)
        yield Tree(tuple(levels))
