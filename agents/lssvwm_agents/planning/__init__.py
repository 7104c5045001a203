"""Planning: score action sequences with a `Dynamics`, search them with a `Planner`, act with `PlannerPolicy`."""

from __future__ import annotations

from lssvwm_agents.planning.cem import CEM, CEMConfig, CEMPlan
from lssvwm_agents.planning.dynamics import Dynamics, WorldModelDynamics
from lssvwm_agents.planning.mpc import PlannerPolicy, PlannerState
from lssvwm_agents.planning.planner import Plan, Planner
from lssvwm_rl.model.world_model import WorldModel

__all__ = [
    "CEM",
    "CEMConfig",
    "CEMPlan",
    "Dynamics",
    "Plan",
    "Planner",
    "PlannerPolicy",
    "PlannerState",
    "WorldModelDynamics",
    "cem_policy",
]


def cem_policy(model: WorldModel, config: CEMConfig | None = None, seed: int = 0) -> PlannerPolicy[CEMPlan]:
    """The usual planner: CEM over the returns that the world model itself predicts.

    Raises:
        ValueError: if CEM has no distribution over the model's actions.
    """
    dynamics = WorldModelDynamics(model, seed=seed)
    return PlannerPolicy(model, CEM(config or CEMConfig(), dynamics.action_space), dynamics, seed)
