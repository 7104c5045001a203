"""Let a world model remember a real environment: python examples/memory_beside_a_real_environment.py [FOLDER]

`MemoryObservation` runs the world model beside an environment and replaces its observation by the readout of the
memory: a vector of one size however long the episode, for agents without a memory of their own. The environment with
its memory can be kept and gone back to at any time.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from lssvwm_envs.make import make_image_env
from lssvwm_rl import Memory, MemoryObservation

CHECKPOINT, ENV_ID = "minigrid-memory", "MiniGrid-MemoryS7-v0"
LEFT, RIGHT, FORWARD = 0, 1, 2
WALK = (LEFT, LEFT, FORWARD, RIGHT, FORWARD, FORWARD)


def main(out: Path) -> None:
    env = MemoryObservation(make_image_env(ENV_ID), CHECKPOINT)
    readout, _ = env.reset(seed=0)
    print(f"A readout has {readout.size} numbers between -1 and 1.")

    state = env.get_state()
    first = [env.step(action)[0] for action in WALK]
    env.set_state(state)
    second = [env.step(action)[0] for action in WALK]
    assert np.array_equal(first, second)
    print(f"Restored, the same {len(WALK)} steps gave the same readouts, bit for bit.")

    out.mkdir(parents=True, exist_ok=True)
    memory = env.get_state().memory
    memory.save(out / "memory.safetensors")
    loaded = Memory.load(out / "memory.safetensors")
    assert torch.equal(loaded.readout(), memory.readout())
    print(f"{int(loaded.frames[0])} frames are in {loaded.nbytes / 2**20:.1f} MB, {out / 'memory.safetensors'}.")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples/memory_beside_a_real_environment"))
