"""What type checkers and editors know of the names that `lssvwm_rl` gives out lazily."""

from lssvwm_agents.planning import PlannerPolicy as PlannerPolicy
from lssvwm_envs import register_checkpoint as register_checkpoint
from lssvwm_envs.dream.env import DreamEnv as DreamEnv
from lssvwm_envs.dream.vector import DreamVectorEnv as DreamVectorEnv
from lssvwm_envs.wrappers import MemoryObservation as MemoryObservation
from lssvwm_rl.data.collect import collect as collect
from lssvwm_rl.data.store import EpisodeStore as EpisodeStore
from lssvwm_rl.model.checkpoints import load_world_model as load_world_model
from lssvwm_rl.model.memory import Memory as Memory
from lssvwm_rl.model.world_model import WorldModel as WorldModel
from lssvwm_rl.training.trainer import train as train

__version__: str
