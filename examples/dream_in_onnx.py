"""Dream without this library and without PyTorch: python examples/dream_in_onnx.py [FOLDER]

`lssvwm export --checkpoint minigrid-memory --format onnx --out FOLDER` has written the folder; numpy and onnxruntime
are all that is needed here. Real frames are taken in first, then 16 are dreamt by random actions.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

STEPS = 16


def main(folder: Path) -> None:
    about = json.loads((folder / "lssvwm.json").read_text())
    context = np.load(folder / "context.npz")
    graphs = {name: onnxruntime.InferenceSession(folder / g["file"]) for name, g in about["graphs"].items()}
    memory = dict(np.load(folder / "memory.npz"))

    def run(name: str, **given: np.ndarray) -> dict[str, np.ndarray]:
        """One call of a graph, which also gives the next memory."""
        graph = about["graphs"][name]
        feed = {n: np.asarray(given[n] if n in given else memory[n]) for n in graph["inputs"]}
        found = dict(zip(graph["outputs"], graphs[name].run(graph["outputs"], feed), strict=True))
        memory.update({n: found.pop(f"after.{n}") for n in about["memory"]})
        return found

    rows, rng = about["batch_size"], np.random.default_rng(0)
    for t in range(len(context["frames"])):
        real = {"frame": context["frames"][t], "action": context["actions"][t]}
        if "vectors" in context.files:
            real["vector"] = context["vectors"][t]
        run("commit", **{name: np.repeat(np.asarray(value)[None], rows, axis=0) for name, value in real.items()})
    frames, rewards = [], np.zeros(rows)
    for _ in range(STEPS):
        action = rng.integers(0, about["action_space"]["n"], rows)
        noise = rng.standard_normal(about["inputs"]["noise"]["shape"], np.float32)
        said = run("step", action=action, noise=noise)
        frames.append(said["frame"])
        rewards += said["rewards"][:, 0]
    np.save(folder / "dream.npy", np.stack(frames))
    print(f"{folder / 'dream.npy'}: {STEPS} dreamt frames of {frames[0].shape[1:]}, reward {rewards[0]:.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples/onnx"))
