"""The pictures of README and docs: `make pictures`, or python docs/pictures.py [NAME ...] [--out FOLDER]

Those in `PICTURES`, and what the notebooks show, are made of what comes with the package, in two minutes of one core.
Those in `SLOW` are of trainings or benches that take up to hours; of them only the command is printed. The same
commands make the same pictures, but for the last digit of floating-point numbers, which another processor may round
otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import gymnasium as gym
import numpy as np
import tyro
from PIL import Image, ImageDraw, ImageFont

from lssvwm_rl.pictures import frame_strip, write_image, write_video

HERE = Path(__file__).parent
CONTEXT = 8  # real frames that a dream begins with
ACTIONS = ("left", "right", "forward", "pickup", "drop", "toggle", "done")
INK, PAPER = (40, 44, 60), (255, 255, 255)

SLOW = {
    "architecture.svg": "drawn by hand",
    "cost.png": "lssvwm bench cost --repeats 11 --out X, then X/cost.png (half an hour)",
    "lamps.png": "the three commands of docs/tutorials/own-environment.md, then the first frames of dream.gif",
    "paired.png": "lssvwm bench paired --checkpoints minigrid-memory --out X, then a picture of X (minutes)",
    "readout.png": "python benchmarks/studies/readout.py --out X, then X/curves.png (hours)",
    "maze-retrieval.png": "the commands at the top of benchmarks/studies/maze_memory.py (an hour)",
    "maze-returns.png": "rows of block_ssm and window of the same retrieval",
}


def home(out: Path) -> None:
    """A dream beside reality, as a GIF."""
    from lssvwm_rl.model.checkpoints import load_contexts, load_engine
    from lssvwm_rl.model.predict import dream_video

    contexts = load_contexts("minigrid-memory")
    episode = contexts[int(np.argmax(contexts.lengths))]
    video = dream_video(load_engine("minigrid-memory"), episode, CONTEXT, 40, seed=0)
    real, dreamt = np.split(video.repeat(4, axis=1).repeat(4, axis=2), 2, axis=2)
    shown = []
    for t, (left, right) in enumerate(zip(real, dreamt, strict=True)):
        observed = t < CONTEXT
        words = f"observes: frame {t + 1} of {CONTEXT}" if observed else f"dreams: step {t + 1 - CONTEXT}, by actions"
        shown.append(_labelled(left, right, "reality", words))
    write_video(out, np.stack([*shown, *[shown[-1]] * 8]), fps=6)


def dream(out: Path) -> None:
    """Reality above, the dream below, every fourth frame."""
    from lssvwm_rl.model.checkpoints import load_contexts, load_engine
    from lssvwm_rl.model.predict import dream_video

    contexts = load_contexts("minigrid-memory")
    episode = contexts[int(np.argmax(contexts.lengths))]
    video = dream_video(load_engine("minigrid-memory"), episode, CONTEXT, 40, seed=0)[CONTEXT::5]
    rows = np.concatenate(np.split(video, 2, axis=2))
    write_image(out, _twice(frame_strip(rows, len(video))))


def maze(out: Path) -> None:
    """What an agent of a maze sees on its way, and the maze from above."""
    from lssvwm_envs.explorers import explorer_named
    from lssvwm_envs.make import image_envs

    envs = image_envs("lssvwm/MemoryMaze-9x9-v0", render_mode="rgb_array")(1)
    frames, _ = envs.reset(seed=1)
    policy, state, seen = explorer_named("frontier")(envs, 0), None, [frames[0]]
    for _ in range(12 * 15):
        actions, state = policy.predict(frames, state, np.array([len(seen) == 1]))
        frames = envs.step(actions)[0]
        seen.append(frames[0])
    strip = _twice(frame_strip(np.stack(seen[::15][:12]), 6))
    above = np.asarray(envs.render()[0])[:, -256:]
    canvas = np.full((len(strip), strip.shape[1] + 8 + len(strip), 3), 255, np.uint8)
    canvas[:, : strip.shape[1]] = strip
    canvas[:, strip.shape[1] + 8 :] = np.asarray(Image.fromarray(above).resize((len(strip), len(strip))))
    write_image(out, canvas)
    envs.close()


def futures(out: Path) -> None:
    """One moment of a dream, continued with every action: a row for each."""
    dreamer = gym.make("lssvwm/Dream-v0", checkpoint="minigrid-memory", context_length=4).unwrapped
    dreamer.reset(seed=0)
    envs = gym.make_vec("lssvwm/Dream-v0", num_envs=len(ACTIONS), checkpoint="minigrid-memory").unwrapped
    frames = [envs.fork(dreamer.get_state())[0]]
    frames += [envs.step(np.arange(len(ACTIONS)))[0] for _ in range(6)]
    rows = np.stack(frames, axis=1)[:4]  # the others do nothing here
    strip = _twice(frame_strip(rows.reshape(-1, *rows.shape[2:]), rows.shape[1]))
    picture = Image.new("RGB", (strip.shape[1] + 96, len(strip)), PAPER)
    picture.paste(Image.fromarray(strip), (96, 0))
    for row, action in enumerate(ACTIONS[:4]):
        ImageDraw.Draw(picture).text((4, row * 116 + 46), action, INK, ImageFont.load_default(18))
    write_image(out, np.asarray(picture))


def agent(out: Path) -> None:
    """The agent of `minigrid-loop`, which learnt in dreams, in a real world of the test split."""
    from lssvwm_agents.policies import load_policy
    from lssvwm_envs.make import make_image_env
    from lssvwm_envs.wrappers import MemoryObservation
    from lssvwm_rl.data.splits import split_seed
    from lssvwm_rl.model.checkpoint_files import resolve_checkpoint

    policy = load_policy(resolve_checkpoint("minigrid-loop") / "agent")
    env = MemoryObservation(make_image_env("MiniGrid-MemoryS7-v0", render_mode="rgb_array"), "minigrid-loop")
    shown = []
    for world in range(4):
        readout, _ = env.reset(seed=split_seed("test", world))
        state, ended, reward = None, False, 0.0
        while not ended:
            shown.append(_beside(env.render(), readout))
            actions, state = policy.predict(readout[None], state, deterministic=True)
            readout, reward, terminated, truncated, _ = env.step(int(actions[0]))
            ended = terminated or truncated
        shown += [_beside(env.render(), readout)] * 6
        print(f"World {world} of the test split paid {reward:.2f}.")
    write_video(out, np.stack(shown), fps=5)


PICTURES: dict[str, Callable[[Path], None]] = {
    "home.gif": home,
    "dream.png": dream,
    "maze.png": maze,
    "futures.png": futures,
    "agent.gif": agent,
}

NOTEBOOKS = ("notebooks/own-environment.ipynb", "notebooks/memory-and-forks.ipynb")


def run_notebook(source: Path, out: Path) -> None:
    """Run a notebook in an empty folder, and write it with what its cells show."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(source, as_version=4)
    with TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=900, resources={"metadata": {"path": folder}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it was run
        if "outputs" in cell:  # what goes to stderr is of the machine, with its paths
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data.pop("text/plain", None)
    out.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, out)


def _labelled(left: np.ndarray, right: np.ndarray, *words: str) -> np.ndarray:
    """Two frames side by side, with words above them."""
    height, width, _ = left.shape
    picture = Image.new("RGB", (2 * width + 8, height + 26), PAPER)
    for at, frame, text in ((0, left, words[0]), (width + 8, right, words[1])):
        picture.paste(Image.fromarray(frame), (at, 26))
        ImageDraw.Draw(picture).text((at + 2, 4), text, INK, ImageFont.load_default(15))
    return np.asarray(picture)


def _beside(view: np.ndarray, readout: np.ndarray) -> np.ndarray:
    """A picture of the world and the readout as colours: blue is -1, white 0, red 1."""
    world = np.asarray(Image.fromarray(view).resize((240, 240)))
    side = int(np.ceil(np.sqrt(len(readout))))
    values = np.pad(readout, (0, side * side - len(readout))).reshape(side, side)[..., None]
    colours = np.where(values > 0, [[[1.0, 0.25, 0.2]]], [[[0.2, 0.35, 1.0]]])
    cells = np.uint8(255 * (1 - np.abs(values) * (1 - colours)))
    memory = np.asarray(Image.fromarray(cells).resize((240, 240), Image.Resampling.NEAREST))
    return _labelled(world, memory, "real world", "what the agent reads")


def _twice(image: np.ndarray) -> np.ndarray:
    return image.repeat(2, axis=0).repeat(2, axis=1)


@dataclass(frozen=True)
class Args:
    """Which pictures are made."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """All that are quick, if none is named."""
    out: Path = HERE
    """Folder; pictures there are replaced."""


def main(args: Args) -> None:
    """Make them.

    Raises:
        ValueError: for an unknown name.
    """
    known = (*PICTURES, *NOTEBOOKS)
    unknown = [name for name in args.names if name not in known]
    if unknown:
        raise ValueError(f"{unknown[0]} is not made here; use {', '.join(known)}.")
    for name in args.names or known:
        path = args.out / name
        if name in NOTEBOOKS:
            run_notebook(HERE / name, path)
        else:
            path.unlink(missing_ok=True)
            PICTURES[name](path)
        print(f"{path}: {path.stat().st_size / 1024:.0f} KB.")
    if not args.names:
        print("Not made again:", *(f"{name}: {how}" for name, how in SLOW.items()), sep="\n  ")


if __name__ == "__main__":
    main(tyro.cli(Args))
