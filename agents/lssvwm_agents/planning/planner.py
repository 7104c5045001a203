"""The seam between acting and searching: whatever finds actions in a `Dynamics` is a planner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from lssvwm_agents.planning.dynamics import Dynamics

P = TypeVar("P", bound="Plan")


class Plan(Protocol):
    """What a planner carries from one step to the next, a value of B rows; all else about it is the planner's own."""

    def where(self: P, mask: Tensor, other: P) -> P:
        """Rows of this plan where `mask` (B,) bool is True, rows of `other` elsewhere; all on the CPU."""


class Planner(Protocol[P]):
    """Anything that searches actions. It holds nothing between calls: a plan goes in, a new plan comes out."""

    def prior(self, rows: int) -> P:
        """The plan of B rows about which nothing is known."""

    def plan(
        self, dynamics: Dynamics, memory: Any, plan: P, generators: Sequence[torch.Generator]
    ) -> tuple[Tensor, P, dict[str, Tensor]]:
        """Search on from `plan`, rows of which are the prior or what the call of the step before returned.

        Args:
            dynamics: scores candidate sequences.
            memory: where the dynamics start, B rows.
            generators: one CPU generator per row, the only source of chance, so that a row does not depend on its
                neighbours.

        Returns:
            The action to take now, (B,) or (B, A) int64 or float32 on the CPU, as the environment takes it; the plan
            for the next step; and figures about the search, tensors (B,).
        """
