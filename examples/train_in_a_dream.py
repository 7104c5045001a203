"""Train an agent in a dream, then let it play the real world: python examples/train_in_a_dream.py [FOLDER]

`DreamVecEnv` is `lssvwm/Dream-v0` for Stable-Baselines3. The policy is an MLP without a memory of its own: it reads the
world model's. `VectorMemoryObservation` runs the same world model beside the real environment, so the policy acts there
unchanged. A good agent takes some 200,000 dreamt steps and four denoising steps: `lssvwm agent train`.
"""

import sys
from functools import partial
from pathlib import Path

from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecMonitor

from lssvwm_agents.evaluate import evaluate_policy
from lssvwm_agents.policies import load_policy, save_policy
from lssvwm_envs.make import make_image_env
from lssvwm_envs.sb3 import DreamVecEnv
from lssvwm_envs.wrappers import VectorMemoryObservation
from lssvwm_rl.files import check_new

CHECKPOINT, ENV_ID = "minigrid-memory", "MiniGrid-MemoryS7-v0"
DREAMS, STEPS, EPISODES = 32, 2_048, 4


def main(out: Path) -> None:
    check_new(out / "agent")
    dreams = DreamVecEnv(CHECKPOINT, DREAMS, seed=0, observation="memory", horizon=32, denoise_steps=1)
    agent = PPO("MlpPolicy", VecMonitor(dreams), n_steps=32, batch_size=256, n_epochs=4, seed=0, device="cpu")
    agent.learn(STEPS)
    save_policy(agent, out / "agent", checkpoint=CHECKPOINT)

    result = evaluate_policy(
        load_policy(out / "agent"),
        lambda: make_image_env(ENV_ID, max_steps=64),
        EPISODES,
        wrap_vector=partial(VectorMemoryObservation, checkpoint=CHECKPOINT),
    )
    print(f"After {STEPS} dreamt steps and no real one: {result.success_rate:.0%} success in {EPISODES} real episodes.")
    print(f"The policy is in {out / 'agent'}.")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples/train_in_a_dream"))
