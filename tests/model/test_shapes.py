"""A config that asks for more than its weights are is refused before any memory is taken, in a sentence."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from lssvwm_rl.model.checkpoint_files import ASSETS, MODEL_CONFIG, WEIGHTS
from lssvwm_rl.model.config import KINDS
from lssvwm_rl.model.shapes import _ShapesAlone, check_shapes, shapes_in
from lssvwm_rl.model.world_model import WorldModel
from support.small_models import BACKBONE, SMALL_RESERVOIR, small_config, small_model

HUGE = 10**12
FIELDS = [
    ("backbone", "width"), ("backbone", "state_size"), ("backbone", "expand"), ("backbone", "window"),
    ("backbone", "mlp_ratio"), ("backbone", "condition_width"), ("feature_size",), ("head_width",), ("vector_size",),
    ("reservoir", "heads"), ("reservoir", "head_size"), ("reservoir", "reads"), ("fast_weights", "size"),
    ("frame_shape", 0), ("frame_shape", 2), ("action_space", "n"),
]  # fmt: skip
# Says what is wrong with a checkpoint, and how many KB of memory it took to find that out.
LOAD = """
import resource, sys
from lssvwm_rl.model.world_model import WorldModel
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    WorldModel.from_pretrained(sys.argv[1])
except ValueError as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)
"""


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """A checkpoint with all parts, without checksums, as a stranger would make it."""
    folder = tmp_path_factory.mktemp("shipped")
    for name in (MODEL_CONFIG, WEIGHTS):
        shutil.copy(ASSETS / "minigrid-loop" / name, folder)
    return folder


def changed(text: str, field: tuple, value: int) -> str:
    config = json.loads(text)
    part = config
    for key in field[:-1]:
        part = part[key]
    part[field[-1]] = value
    return json.dumps(config)


@pytest.mark.parametrize("value", [HUGE, 10**19])
@pytest.mark.parametrize("field", FIELDS, ids=lambda field: ".".join(map(str, field)))
def test_a_config_that_asks_for_too_much_is_refused(shipped, field, value):
    text = (shipped / MODEL_CONFIG).read_text()
    (shipped / MODEL_CONFIG).write_text(changed(text, field, value))
    try:
        with pytest.raises(ValueError, match="not those of its config.json|not a world model's config"):
            WorldModel.from_pretrained(shipped)
    finally:
        (shipped / MODEL_CONFIG).write_text(text)
    WorldModel.from_pretrained(shipped)


def test_many_layers_are_not_even_made(shipped):
    text = (shipped / MODEL_CONFIG).read_text()
    config = json.loads(text)
    config["backbone"]["blocks"] = [1] * 1_000_000
    (shipped / MODEL_CONFIG).write_text(json.dumps(config))
    with pytest.raises(ValueError, match="has 1000000 layers, the weights are [0-9]+ tensors"):
        WorldModel.from_pretrained(shipped)
    (shipped / MODEL_CONFIG).write_text(text)


@pytest.mark.skipif(sys.platform != "linux", reason="KB are those of Linux")
def test_nothing_is_allocated_for_weights_that_do_not_fit(tmp_path):
    """Neither the 4 GB that the config asks for, nor the 400 MB in the file."""
    model = small_model()
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / WEIGHTS)
    save_file({**weights, "patch_in.weight": torch.zeros(100_000, 1_000)}, tmp_path / WEIGHTS)
    for text in (model.config.to_json(), changed(model.config.to_json(), ("backbone", "mlp_ratio"), 500_000)):
        (tmp_path / MODEL_CONFIG).write_text(text)
        (tmp_path / "checksums.json").unlink(missing_ok=True)
        done = subprocess.run([sys.executable, "-c", LOAD, str(tmp_path)], capture_output=True, text=True)
        assert done.returncode == 0 and "has shape" in done.stdout, done.stderr[-2000:]
        assert int(done.stdout.split()[0]) < 150_000


def test_models_of_box_actions_can_be_loaded(tmp_path):
    """Their embedding is scaled in place where it is made, which leaves it a parameter."""
    box = {"type": "Box", "shape": [2], "dtype": "float32", "low": [-1.0, -1.0], "high": [1.0, 1.0]}
    model = small_model(action_space=box)
    model.save_pretrained(tmp_path)
    found = WorldModel.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_the_shapes_are_those_of_the_model(tmp_path, kind):
    """Also of parts that are never trained, which have no weights in the file."""
    parts = {"reservoir": SMALL_RESERVOIR, "vector_size": 3} if kind == "block_ssm" else {"shortcut": True}
    model = WorldModel(small_config(backbone=BACKBONE.__class__(**{**vars(BACKBONE), "kind": kind}), **parts))
    with torch.device("meta"), _ShapesAlone():
        alone = WorldModel(model.config)
        memory = alone.initial_memory(1)
    for ours, theirs in (
        (dict(alone.named_buffers()), dict(model.named_buffers())),
        (alone.state_dict(), model.state_dict()),
        (memory.tensors(), model.initial_memory(1).tensors()),
    ):
        assert {name: part.shape for name, part in ours.items()} == {name: part.shape for name, part in theirs.items()}
    model.save_pretrained(tmp_path)
    check_shapes(lambda: WorldModel(model.config), len(BACKBONE.blocks), shapes_in(tmp_path / WEIGHTS))


def test_loading_does_not_load_the_compiler():
    """Which would take longer than all the rest."""
    text = "import sys; from lssvwm_rl.model.world_model import WorldModel as M; M.from_pretrained('minigrid-loop');"
    done = subprocess.run([sys.executable, "-c", f"{text} print('torch._dynamo' in sys.modules)"], capture_output=True)
    assert done.stdout.split() == [b"False"], done.stderr[-2000:]
