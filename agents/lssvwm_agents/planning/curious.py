"""Curiosity: go where the world model does not know what it will see, to collect what it has still to learn.

Plan2Explore (Sekar et al. 2020, arXiv 2005.05960) plans for the disagreement of an ensemble of one-step predictions;
here one model's doubt of its own frames takes its place.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from lssvwm_agents.planning.dynamics import WorldModelDynamics
from lssvwm_agents.planning.mpc import PlannerPolicy
from lssvwm_agents.planning.shooting import NoPlan, RandomShooting, ShootingConfig
from lssvwm_rl.model.engine import Engine, engine_of
from lssvwm_rl.model.outputs import Imagined
from lssvwm_rl.model.world_model import WorldModel

BUDGET = ShootingConfig(horizon=6, samples=24)
DENOISE_STEPS = 4  # with 2, doubt says less about errors (benchmarks/studies/doubt.py)


def doubt_of(step: Imagined) -> Tensor:
    """A reward for `WorldModelDynamics`: how unsure the model is of the frame, (M,)."""
    return step.doubt


def curious_policy(
    model: WorldModel | Engine, config: ShootingConfig = BUDGET, seed: int = 0, vector_keys: Sequence[str] = ()
) -> PlannerPolicy[NoPlan]:
    """The action sequence, out of random ones, whose dreamt frames have the largest sum of doubts, at every step anew.

    Args:
        model: or the engine that runs it.
        config: how far and how often to shoot.
        seed: of the sequences and of the dreams.
        vector_keys: see `mpc.given_vectors`.

    Raises:
        ValueError: if there is no distribution over the model's actions.
    """
    engine = engine_of(model)
    dynamics = WorldModelDynamics(engine, denoise_steps=DENOISE_STEPS, seed=seed, reward=doubt_of)
    return PlannerPolicy(engine, RandomShooting(config, dynamics.action_space), dynamics, seed, vector_keys)
