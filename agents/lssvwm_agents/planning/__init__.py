"""Planning: score action sequences with a `Dynamics`, search them with a `Planner`, act with `PlannerPolicy`."""

from __future__ import annotations

from lssvwm_agents.planning.cem import CEM, CEMConfig, CEMPlan
from lssvwm_agents.planning.dynamics import Dynamics, WorldModelDynamics, engine_of
from lssvwm_agents.planning.mpc import PlannerPolicy, PlannerState
from lssvwm_agents.planning.planner import Plan, Planner
from lssvwm_rl.model.engine import Engine
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


def cem_policy(model: WorldModel | Engine, config: CEMConfig | None = None, seed: int = 0) -> PlannerPolicy[CEMPlan]:
    """The usual planner: CEM over the returns that the world model itself predicts.

    Args:
        model: or the engine that runs it.

    Raises:
        ValueError: if CEM has no distribution over the model's actions.
    """
    engine = engine_of(model)
    dynamics = WorldModelDynamics(engine, seed=seed)
    return PlannerPolicy(engine, CEM(config or CEMConfig(), dynamics.action_space), dynamics, seed)
