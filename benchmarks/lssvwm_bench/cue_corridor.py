"""A world that nothing was tuned for: a lamp at the mouth of a corridor says which door at its end will pay.

    lssvwm collect lssvwm_bench.cue_corridor:CueCorridor-v0 --episodes 3000 --num-envs 8 --out data/corridor
    lssvwm train --data data/corridor --out runs/corridor --minutes 3

The training says by itself whether memory formed: wiped, rewards are told at chance.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

SIDE = 64  # pixels
STEPS = 60  # from the lamp to the doors
WAIT, LEFT, RIGHT = range(3)
LAMPS = ((230, 40, 40), (40, 200, 60))  # says left, says right
DOORS = ((60, 90, 220), (220, 200, 60))


class CueCorridor(gym.Env):
    """Walks by itself; looking left and right changes the view, and at the end it is the choice of a door.

    The lamp, red or green, is in the first frame alone. Reward 1 for the left door after red and the right door after
    green, 0 for the other one and for waiting; the episode ends there.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    render_mode = "rgb_array"

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)
        self.action_space = spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed, options=options)
        self.lamp, self.steps, self.look = int(self.np_random.integers(2)), 0, WAIT
        self.bricks = self.np_random.integers(60, 160, 32)  # of the walls, another corridor every time
        return self.render(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.steps, self.look = self.steps + 1, int(action)
        ended = self.steps == STEPS
        paid = ended and self.look == (LEFT if self.lamp == 0 else RIGHT)
        return self.render(), float(paid), ended, False, {}

    def render(self) -> Any:
        rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
        centre = SIDE / 2 + {WAIT: 0, LEFT: 12, RIGHT: -12}[self.look]
        aside, down = np.abs(columns - centre), np.abs(rows - SIDE / 2)
        near = np.maximum(np.maximum(aside, down), 3)  # pixels from the vanishing point
        depth = (8 * SIDE / near + self.steps).astype(int)
        brick = self.bricks[depth % len(self.bricks)] * np.minimum(1, near / 24)
        frame = np.repeat(brick[..., None], 3, axis=2) * np.where((aside > down)[..., None], (1, 0.9, 0.8), 0.6)
        frame = frame.clip(0, 255).astype(np.uint8)
        if self.steps == 0:
            frame[6:18, 26:38] = LAMPS[self.lamp]
        if self.steps >= STEPS - 1:
            frame[20:, 4:24], frame[20:, 40:60] = DOORS
        return frame


gym.register("CueCorridor-v0", "lssvwm_bench.cue_corridor:CueCorridor")
