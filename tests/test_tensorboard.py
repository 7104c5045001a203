"""docs/tensorboard.md names every tag that trainings write; pictures and settings can be read back."""

from __future__ import annotations

import io
import re
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from lssvwm_rl.cli import main
from lssvwm_rl.events import write_outcome
from lssvwm_rl.training import trainer

PAGE = (Path(__file__).parents[1] / "docs" / "tensorboard.md").read_text()
TAGS = re.findall(r"^\| `([\w/]+)` \|", PAGE, re.MULTILINE)
PATTERNS = {tag: re.compile(tag.replace("NAME", r"\w+").replace("_N", r"_\d+")) for tag in TAGS}
TRAIN = "--batch-size 2 --span 8 --preset tiny --model.grid 8 8 --model.backbone.width 32 --model.backbone.blocks 1 "
TRAIN += "--model.feature-size 12 --model.head-width 32 --device cpu --log-every 1 --preview-every 1 --measure-every 1"
PPO = "--num-envs 2 --rollout-steps 8 --batch-size 8 --epochs 1"
DREAMS = "--horizon 4 --context-length 2 --denoise-steps 1"
IF_THERE_IS_SOMETHING_TO_TELL = re.compile(r"train/(memory_\w+|vector)|(loop|result)/.*")


def events_of(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()


def tags_of(folder: Path) -> set[str]:
    tags = events_of(folder).Tags()
    return {*tags["scalars"], *tags["images"]}


def documented(tag: str) -> bool:
    return any(pattern.fullmatch(tag) for pattern in PATTERNS.values())


@pytest.fixture(scope="module")
def runs(checkpoint, tmp_path_factory) -> Path:
    """A folder with a training of each kind."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "gemm_rate", lambda device: 1e9)
        main(f"train --data {checkpoint}/contexts --out {folder}/world --steps 2 {TRAIN}".split())
    agent = f"agent train --checkpoint {checkpoint} --out {folder}/agent --total-steps 32 {PPO} {DREAMS}"
    env = "--env MiniGrid-MemoryS7-v0 --env-kwargs max_steps 5"
    main(f"{agent} --real-share 0.5 {env}".split())
    main(f"agent baseline --out {folder}/baseline --steps 32 {PPO} {env}".split())
    return folder


@pytest.mark.parametrize("kind", ["world", "agent", "baseline"])
def test_every_tag_is_on_the_page(runs, kind):
    unknown = {tag for tag in tags_of(runs / kind) if not documented(tag)}
    assert unknown == set()


def test_every_tag_of_the_page_is_written(runs):
    found = tags_of(runs / "world") | tags_of(runs / "agent") | tags_of(runs / "baseline")
    missing = {tag for tag, pattern in PATTERNS.items() if not any(map(pattern.fullmatch, found))}
    assert {tag for tag in missing if not IF_THERE_IS_SOMETHING_TO_TELL.fullmatch(tag)} == set()
    assert len(TAGS) > 35 and len(set(TAGS)) == len(TAGS)


def test_previews_are_a_film_and_the_memory_that_fills(runs):
    events = events_of(runs / "world")
    films, memories = events.Images("preview/real_and_dream"), events.Images("preview/memory")
    assert [image.step for image in films] == [image.step for image in memories] == [1, 2]
    film = iio.imread(io.BytesIO(films[0].encoded_image_string), index=None, extension=".gif")
    assert len(film) > 2 and film.shape[1:3] == (films[0].height, films[0].width)
    picture = iio.imread(io.BytesIO(memories[0].encoded_image_string))
    assert picture.shape == (memories[0].height, memories[0].width, 3)
    maps = np.array_split(picture[picture.shape[0] // 2 + 1 :].astype(float), 5, axis=1)
    assert maps[0].mean() < maps[-1].mean(), "after one frame there is less than after all"


@pytest.mark.parametrize(
    ("kind", "settings", "results"),
    [
        ("world", {"train.batch_size": 2, "objective.name": "two_stream", "model.head_width": 32}, "train/"),
        ("agent", {"total_steps": 32, "real_share": 0.5}, "agent/"),
        ("baseline", {"total_steps": 32, "env": "MiniGrid-MemoryS7-v0", "kind": "images"}, "agent/"),
    ],
)
def test_settings_are_written_with_results(runs, kind, settings, results):
    events = events_of(runs / kind)
    data = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    found = HParamsPluginData.FromString(data).session_start_info.hparams
    for name, value in settings.items():
        assert getattr(found[name], "string_value" if isinstance(value, str) else "number_value") == value, name
    finals = {tag.removeprefix("result/"): tag for tag in events.Tags()["scalars"] if tag.startswith("result/")}
    assert finals
    for name, tag in finals.items():
        assert events.Scalars(tag)[0].value == events.Scalars(f"{results}{name}")[-1].value


def test_an_outcome_takes_the_place_of_the_one_before(tmp_path):
    write_outcome(tmp_path, {"a": 1, "of": (1, 2), "none": None}, {"x": 1.0, "y": None, "z": float("nan")}, 3)
    write_outcome(tmp_path, {"a": 2}, {"x": 2.0}, 5)
    assert len(list(tmp_path.iterdir())) == 1
    events = events_of(tmp_path)
    assert events.Tags()["scalars"] == ["result/x"] and [e.value for e in events.Scalars("result/x")] == [2.0]
    assert events.Scalars("result/x")[0].step == 5
