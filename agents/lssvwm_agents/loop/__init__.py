"""The loop: collect, fit a world model, train an agent in its dreams, let it play, and again with what it found.

The Dyna circle (Sutton 1991) for a learned environment: what an agent exploits in the dream, it does in reality too,
and then it is data.
"""

from lssvwm_agents.loop.config import LoopConfig
from lssvwm_agents.loop.outcome import Piece
from lssvwm_agents.loop.run import loop

__all__ = ["LoopConfig", "Piece", "loop"]
