"""Play the real world by planning in the world model: python examples/plan.py [FOLDER]

No policy is trained. At every step the world model remembers the real frame, CEM searches the actions whose dreamt
return is highest, and the first of them is taken. Another planner or other dynamics fit in as well: see the Protocols
`Planner` and `Dynamics`. So small a search loses some worlds; try another WORLD, and more samples.
"""

import sys
from pathlib import Path

import numpy as np

from lssvwm_agents.planning import CEM, CEMConfig, WorldModelDynamics
from lssvwm_envs.make import make_image_env
from lssvwm_rl import PlannerPolicy, load_world_model
from lssvwm_rl.pictures import write_video

CHECKPOINT, ENV_ID = "minigrid-memory", "MiniGrid-MemoryS7-v0"
SEARCH = CEMConfig(horizon=8, samples=16, elites=4, iterations=2)
WORLD, STEPS = 2, 40


def main(out: Path) -> None:
    model = load_world_model(CHECKPOINT)
    dynamics = WorldModelDynamics(model, discount=0.99, denoise_steps=1)
    policy = PlannerPolicy(model, CEM(SEARCH, dynamics.action_space), dynamics, seed=0)

    env = make_image_env(ENV_ID, max_steps=STEPS, render_mode="rgb_array")
    frame, _ = env.reset(seed=WORLD)
    pictures, state, reward, ended = [env.render()], None, 0.0, False
    while not ended:
        # Policies act in many environments at once, this one in a batch of one; what they carry goes in and comes out.
        actions, state = policy.predict(frame[None], state)
        frame, reward, terminated, truncated, _ = env.step(actions[0])
        ended = terminated or truncated
        pictures.append(env.render())
    write_video(out / "plan.gif", np.stack(pictures))
    print(f"{len(pictures) - 1} steps, reward {reward:.2f}; they are in {out / 'plan.gif'}.")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples/plan"))
