"""Fork a dream and compare its futures: python examples/fork_futures.py [FOLDER]

A state is a value: it can be saved, read again, and continued in many ways at once. Here one moment goes on with every
action, all of them in one network call per step. Rows get the same noise, so they differ by their actions alone.
"""

import sys
from pathlib import Path

import gymnasium as gym
import numpy as np

from lssvwm_envs.dream.state import DreamState
from lssvwm_rl.pictures import frame_strip, write_image

CHECKPOINT = "minigrid-memory"
ACTIONS = ("left", "right", "forward", "pickup", "drop", "toggle", "done")
STEPS = 6


def main(out: Path) -> None:
    dream = gym.make("lssvwm/Dream-v0", checkpoint=CHECKPOINT, context_length=4, denoise_steps=1).unwrapped
    dream.reset(seed=0)
    dream.save_state(out / "moment.safetensors")

    count = len(ACTIONS)
    envs = gym.make_vec("lssvwm/Dream-v0", num_envs=count, checkpoint=CHECKPOINT, denoise_steps=1).unwrapped
    frames, _ = envs.fork(DreamState.load(out / "moment.safetensors"))
    futures = [frames, *(envs.step(np.arange(count))[0] for _ in range(STEPS))]

    rows = np.stack(futures, axis=1)  # (actions, steps + 1, H, W, 3)
    strip = frame_strip(rows.reshape(-1, *rows.shape[2:]), STEPS + 1)
    write_image(out / "futures.png", strip.repeat(2, axis=0).repeat(2, axis=1))
    for action, row in zip(ACTIONS, rows, strict=True):
        changed = (np.abs(row[-1].astype(int) - row[0]) > 32).any(-1).mean()
        print(f"{action:<8} changed {changed:4.0%} of the pixels in {STEPS} steps")
    print(f"{out / 'futures.png'} has a row for each action. Four turns lead back to what was seen first.")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples/fork_futures"))
