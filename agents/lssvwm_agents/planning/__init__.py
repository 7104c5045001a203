"""Planning: score action sequences with a `Dynamics`, search them with a `Planner`, act with `PlannerPolicy`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from lssvwm_agents.planning.cem import CEM, CEMConfig, CEMPlan
from lssvwm_agents.planning.critic import critic_value
from lssvwm_agents.planning.curious import curious_policy
from lssvwm_agents.planning.dynamics import Dynamics, WorldModelDynamics, engine_of
from lssvwm_agents.planning.icem import ICEM, ICEMConfig, ICEMPlan
from lssvwm_agents.planning.mpc import PlannerPolicy, PlannerState
from lssvwm_agents.planning.mppi import MPPI, MPPIConfig, MPPIPlan
from lssvwm_agents.planning.planner import Plan, Planner
from lssvwm_agents.planning.shooting import RandomShooting, ShootingConfig
from lssvwm_agents.policies import SavedPolicy
from lssvwm_rl.model.engine import Engine
from lssvwm_rl.model.outputs import Imagined
from lssvwm_rl.model.world_model import WorldModel

__all__ = [
    "CEM",
    "ICEM",
    "MPPI",
    "PLANNERS",
    "CEMConfig",
    "CEMPlan",
    "Dynamics",
    "ICEMConfig",
    "ICEMPlan",
    "MPPIConfig",
    "MPPIPlan",
    "Plan",
    "Planner",
    "PlannerConfig",
    "PlannerPolicy",
    "PlannerState",
    "RandomShooting",
    "ShootingConfig",
    "WorldModelDynamics",
    "critic_value",
    "curious_policy",
    "planner_policy",
]

PlannerConfig = CEMConfig | ICEMConfig | MPPIConfig | ShootingConfig
PLANNERS: dict[str, tuple[type[PlannerConfig], type[Planner[Any]]]] = {
    "cem": (CEMConfig, CEM),
    "icem": (ICEMConfig, ICEM),
    "mppi": (MPPIConfig, MPPI),
    "shooting": (ShootingConfig, RandomShooting),
}
"""Name -> the settings of a planner, and the planner made of them and of an action space."""


def planner_policy(
    model: WorldModel | Engine,
    config: PlannerConfig | None = None,
    seed: int = 0,
    reward: Callable[[Imagined], Tensor] | None = None,
    critic: SavedPolicy | None = None,
    vector_keys: Sequence[str] = (),
) -> PlannerPolicy[Any]:
    """A planner over the returns that the world model itself predicts, or over those of another reward.

    Args:
        model: or the engine that runs it.
        config: which planner, and how it searches; `CEMConfig()` if None.
        seed: of the planner's and the dynamics' random numbers.
        reward: what one dreamt step earns, (M,), for example `goals.pixel_goal(frame)`; the model's own if None.
        critic: agent that was trained with this model; its value function judges what comes after the horizon.
        vector_keys: see `mpc.given_vectors`.

    Raises:
        ValueError: if no planner has such a config, the planner no distribution over the model's actions, or the
            critic was trained with another model.
    """
    config = CEMConfig() if config is None else config
    planners: dict[type[PlannerConfig], Any] = dict(PLANNERS.values())
    if type(config) not in planners:
        names = ", ".join(each.__name__ for each in planners)
        raise ValueError(f"{config!r} is no planner's config; give one of {names}.")
    engine = engine_of(model)
    value = None if critic is None else critic_value(critic, engine.model)
    dynamics = WorldModelDynamics(engine, seed=seed, terminal_value=value, reward=reward)
    planner = planners[type(config)](config, dynamics.action_space)
    return PlannerPolicy(engine, planner, dynamics, seed, vector_keys)
