"""The page of a model on the Hugging Face hub, README.md, and its pictures, from what is in the folder of a run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from lssvwm_rl.data.store import Episode, EpisodeStore
from lssvwm_rl.files import write_text, written_whole
from lssvwm_rl.model.checkpoint_files import CONTEXTS, ENV_FILE
from lssvwm_rl.model.checkpoints import fingerprint
from lssvwm_rl.model.predict import dream
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.pictures import frame_strip, write_image
from lssvwm_rl.training.curve import HOW_FAST, read_curve
from lssvwm_rl.training.run_folder import CONFIG_FILE

CARD = "README.md"
CURVE_PICTURE, DREAM_PICTURE = "curve.png", "dream.png"
CONTEXT, DREAMT, EVERY = 8, 32, 4  # real frames before, dreamt frames, and of these one in so many is shown
LOSSES_END = "total"  # column of the learning curve; what was measured stands behind it


def write_card(folder: Path, model_id: str, license: str, notes: str = "") -> None:
    """Write `CARD` and the pictures that the folder of a checkpoint has the data for.

    Args:
        folder: as `run_folder.export` makes it; what is not there is left out.
        model_id: "owner/name".
        license: of the model, as the hub names it.
        notes: text for the end.
    """
    model = WorldModel.from_pretrained(folder)
    contexts = EpisodeStore(folder / CONTEXTS) if (folder / CONTEXTS).is_dir() else None
    about, curve, env = _settings(folder), read_curve(folder), _environment(folder, contexts)
    pictures = []
    if contexts is not None and len(contexts):
        write_image(folder / DREAM_PICTURE, _dream_picture(model, contexts[int(np.argmax(contexts.lengths))]))
        pictures.append(
            (DREAM_PICTURE, "reality above, the dream from the same first frames and the same actions below")
        )
    if len(curve) > 1:
        _curve_picture(folder / CURVE_PICTURE, curve)
        pictures.append((CURVE_PICTURE, "the learning curve"))
    last = curve[-1] if curve else {}
    parts = [
        f"---\n{yaml.safe_dump(_front(model_id, license, env, last), sort_keys=False, allow_unicode=True)}---",
        f"# {model_id.partition('/')[2]}",
        _introduction(model, env),
        *(f"![{text}]({name})" for name, text in pictures),
        _use(model_id),
        "## Data\n\n" + _table(_data(about, contexts)),
        "## Figures\n\n" + (_table(_figures(last)) if last else "The folder holds no learning curve."),
        "## Settings\n\n```yaml\n"
        + yaml.safe_dump(about or json.loads(model.config.to_json()), sort_keys=False)
        + "```",
        f"Fingerprint `{fingerprint(model)}`.",
        *([f"## Notes\n\n{notes.strip()}"] if notes.strip() else []),
    ]
    write_text(folder / CARD, "\n\n".join(parts) + "\n")


def notes_of(readme: str) -> str:
    """A README without the YAML and the title before its text."""
    text = readme.split("---\n", 2)[2] if readme.startswith("---\n") and readme.count("---\n") > 1 else readme
    title, _, rest = text.strip().partition("\n")
    return rest if title.startswith("# ") else text


def _front(model_id: str, license: str, env: str | None, last: dict[str, float]) -> dict[str, Any]:
    tags = ["world-model", "reinforcement-learning", "gymnasium", "video-prediction", "state-space-model", "memory"]
    front: dict[str, Any] = {
        "library_name": "lssvwm-rl",
        "license": license,
        "pipeline_tag": "reinforcement-learning",
        "tags": tags + ([env] if env else []),
    }
    measured = _measured(last)
    if env and measured:
        task = {"type": "reinforcement-learning", "name": "World model"}
        metrics = [{"type": name, "value": value, "name": name.replace("_", " ")} for name, value in measured.items()]
        result = {"task": task, "dataset": {"name": env, "type": env}, "metrics": metrics}
        front["model-index"] = [{"name": model_id.partition("/")[2], "results": [result]}]
    return front


def _introduction(model: WorldModel, env: str | None) -> str:
    config, count = model.config, sum(p.numel() for p in model.parameters())
    H, W, C = config.frame_shape
    of = f" of `{env}`" if env else ""
    vector = f", a vector of {config.vector_size} numbers" if config.vector_size else ""
    return (
        f"A world model{of} that runs as a Gymnasium environment: `{config.backbone.kind}`, {count / 1e6:.2f} M "
        f"parameters, frames of {H}x{W}x{C} uint8{vector}, actions {_space(config.action_space)}. Made with lssvwm-rl."
    )


def _space(space: dict[str, Any]) -> str:
    sizes = {"Discrete": "n", "MultiDiscrete": "nvec"}.get(space["type"])
    return f"`{space['type']}({space[sizes]})`" if sizes else f"`{space['type']}`"


def _use(model_id: str) -> str:
    return f"""## Use

```bash
pip install "lssvwm-rl[hub]"
lssvwm hub pull {model_id} --out {model_id.partition("/")[2]}
```

```python
import gymnasium as gym
import lssvwm_rl

env = gym.make("lssvwm/Dream-v0", checkpoint="hub:{model_id}")
frame, info = env.reset(seed=0)
frame, reward, terminated, truncated, info = env.step(env.action_space.sample())
```"""


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    found = yaml.safe_load(path.read_text()) if path.is_file() else None
    return found if isinstance(found, dict) else {}


def _environment(folder: Path, contexts: EpisodeStore | None) -> str | None:
    """Its id, which the folder or the header of its episodes names."""
    texts = [(folder / ENV_FILE).read_text()] if (folder / ENV_FILE).is_file() else []
    texts += [contexts.header.env_spec] if contexts is not None and contexts.header.env_spec else []
    return str(json.loads(texts[0])["id"]) if texts else None


def _data(about: dict[str, Any], contexts: EpisodeStore | None) -> dict[str, str]:
    named = {"episodes": "episodes_of_data", "steps": "steps_of_data", "started from the weights of": "weights"}
    rows = {name: about.get(key) for name, key in named.items()}
    if contexts is not None:
        rows |= {"played by": contexts.header.policy, "held-out episodes in `contexts/`": len(contexts)}
    return {name: f"{value:,}" if isinstance(value, int) else str(value) for name, value in rows.items() if value}


def _measured(row: dict[str, float]) -> dict[str, float]:
    """Of a row of the learning curve what is no loss and says something."""
    names = list(row)
    behind = names[names.index(LOSSES_END) + 1 :] if LOSSES_END in names else []
    return {name: row[name] for name in behind if math.isfinite(row[name])}


def _figures(last: dict[str, float]) -> dict[str, str]:
    kept = {name: value for name, value in last.items() if name not in HOW_FAST[1:] and math.isfinite(value)}
    return {
        name.replace("_", " "): f"{value:,.4g}" if name != "step" else f"{value:,.0f}" for name, value in kept.items()
    }


def _table(rows: dict[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _dream_picture(model: WorldModel, episode: Episode) -> np.ndarray:
    """Reality above and the dream below, (H', W', 3) uint8; the first of each is the last one before the dream."""
    context = min(CONTEXT, max(1, len(episode.frames) - 2))
    steps = min(DREAMT, max(1, len(episode.frames) - context))
    shown = list(range(0, steps, max(1, min(EVERY, steps // 2))))
    dreamt = dream(model, episode, context, steps, seed=0)[shown]
    real = episode.frames[np.minimum(context + np.array(shown), len(episode.frames) - 1)]
    before = episode.frames[context - 1 : context]
    strip = frame_strip(np.concatenate([before, real, before, dreamt]), len(shown) + 1)
    return strip.repeat(3, axis=2) if strip.shape[2] == 1 else strip[..., :3]


def _curve_picture(path: Path, curve: list[dict[str, float]]) -> None:
    """Losses on the left, what was measured beside them, if anything was."""
    measured, names = _measured(curve[-1]), list(curve[0])
    losses = names[1 : names.index(LOSSES_END) + 1] if LOSSES_END in names else names[1:]
    losses = [name for name in losses if name not in HOW_FAST]
    figure = Figure(figsize=(6 * (1 + bool(measured)), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 1 + bool(measured), squeeze=False)[0]
    steps = [row["step"] for row in curve]
    for panel, shown, label in zip(panels, (losses, list(measured)), ("loss", "measured"), strict=False):
        for name in shown:
            panel.plot(steps, [row.get(name, math.nan) for row in curve], label=name.replace("_", " "), linewidth=1)
        panel.set(xlabel="updates", ylabel=label)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(fontsize=6, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    panels[0].set_yscale("log", nonpositive="mask")
    panels[0].yaxis.set_major_formatter("{x:g}")
    panels[0].yaxis.set_minor_formatter(NullFormatter())
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
