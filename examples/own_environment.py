"""Learn a world model of an environment of your own, then `gym.make` it: python examples/own_environment.py [FOLDER]

Any Gymnasium environment will do whose observation is a uint8 image, or a Dict with one. This one is so small that a
model learns in seconds how its ball moves, where it stops and what pays. Run again, the example resumes.
"""

import sys
from pathlib import Path

import gymnasium as gym
import numpy as np

from lssvwm_envs.make import image_envs
from lssvwm_rl import collect, train
from lssvwm_rl.model.config import BackboneConfig
from lssvwm_rl.pictures import enlarge, frame_strip, write_image
from lssvwm_rl.policy import RandomPolicy
from lssvwm_rl.training.config import TrainConfig
from lssvwm_rl.training.presets import model_config

EPISODES, UPDATES = 200, 120
LEFT, RIGHT = 0, 1
VIEWS = np.uint8(150 * np.eye(4)).repeat(4, axis=1)[:, None, :, None].repeat(16, axis=1)  # of each place of the ball


class Corridor(gym.Env):
    """A ball in a corridor of four places; the last one pays 1 and ends the episode."""

    observation_space, action_space = gym.spaces.Box(0, 255, (16, 16, 1), np.uint8), gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(3))
        return VIEWS[self.place], {}

    def step(self, action):
        self.place = self.place + 1 if action == RIGHT else max(self.place - 1, 0)
        return VIEWS[self.place], float(self.place == 3), self.place == 3, False, {}


def main(out: Path) -> None:
    gym.register("Corridor-v0", Corridor, max_episode_steps=16)
    policy = RandomPolicy(Corridor.action_space)
    store = collect(image_envs("Corridor-v0"), lambda envs, seed: policy, out / "data", EPISODES)
    model = model_config("tiny", store.header, grid=(1, 1), backbone=BackboneConfig(width=64, blocks=(1, 1)))
    settings = TrainConfig(steps=UPDATES, span=8, learning_rate=3e-3, warmup=10, ema_decay=0.9, preview_every=0)
    train(store=store, out=out / "run", model_config=model, config=settings)

    dream = gym.make("lssvwm/Dream-v0", checkpoint=str(out / "run"))
    frames, walk, ended = [dream.reset(seed=0)[0]], [LEFT, LEFT, RIGHT, LEFT, RIGHT, RIGHT, RIGHT], False
    while walk and not ended:
        frame, reward, ended, *_ = dream.step(walk.pop(0))
        frames.append(frame)
    write_image(out / "dream.png", enlarge(frame_strip(np.stack(frames), len(frames))[None])[0])
    print(f"The last of {len(frames) - 1} dreamt steps paid {reward:.2f}; they are in {out / 'dream.png'}.")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples/own_environment"))
