"""Planning: score action sequences with a `Dynamics`, search them with `CEM`, act with `PlannerPolicy`."""

from __future__ import annotations

from lssvwm_agents.planning.cem import CEM, CEMConfig, Plan
from lssvwm_agents.planning.dynamics import Dynamics, WorldModelDynamics
from lssvwm_agents.planning.mpc import PlannerPolicy, PlannerState

__all__ = ["CEM", "CEMConfig", "Dynamics", "Plan", "PlannerPolicy", "PlannerState", "WorldModelDynamics"]
