"""A header is read as it was written, and names an environment but no code."""

from __future__ import annotations

import dataclasses
import json

import pytest

from lssvwm_rl.cli import main
from lssvwm_rl.data.episode import CHECKSUM, HEADER, StoreHeader
from lssvwm_rl.model.checkpoint_files import ASSETS, CONTEXTS
from support.small_checkpoints import save_checkpoint

PLAIN = StoreHeader((2, 2, 1), {"type": "Discrete", "n": 3, "start": 0}, {"pose": 2}, policy="explore", seeds=(4,))
SPEC = json.dumps({"id": "MiniGrid-MemoryS7-v0", "kwargs": {"max_steps": 9}})


def with_spec(spec: str | None) -> StoreHeader:
    return dataclasses.replace(PLAIN, env_spec=spec)


def test_every_changed_byte_of_a_header_is_an_error_or_changes_nothing(tmp_path):
    header = with_spec(SPEC)
    text = header.to_json().encode()
    (tmp_path / HEADER).write_bytes(text)
    assert StoreHeader.load(tmp_path) == header
    for at in range(len(text)):
        for bit in (0, 2, 5, 7):
            changed = bytearray(text)
            changed[at] ^= 1 << bit
            (tmp_path / HEADER).write_bytes(changed)
            try:
                assert StoreHeader.load(tmp_path) == header, changed
            except ValueError as error:
                assert str(tmp_path / HEADER) in str(error)


def test_a_header_can_be_changed_by_who_means_it_and_those_of_before_are_read(tmp_path):
    header = json.loads(PLAIN.to_json())
    (tmp_path / HEADER).write_text(json.dumps({**header, "policy": "mine"}))
    with pytest.raises(ValueError, match=f"has changed since it was written; put it back, or remove its {CHECKSUM}"):
        StoreHeader.load(tmp_path)
    del header[CHECKSUM]
    (tmp_path / HEADER).write_text(json.dumps({**header, "policy": "mine"}))
    assert StoreHeader.load(tmp_path).policy == "mine"
    for name in ("maze-memory", "minigrid-loop", "minigrid-memory"):
        assert StoreHeader.load(ASSETS / name / CONTEXTS).environment() is not None


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (None, None),
        (SPEC, ("MiniGrid-MemoryS7-v0", {"max_steps": 9})),
        (json.dumps({"id": "X-v0", "entry_point": "evil:Env"}), ("X-v0", {})),
        (json.dumps({"id": "X-v0", "additional_wrappers": [{"entry_point": "evil:W"}]}), ("X-v0", {})),
    ],
)
def test_of_a_spec_only_the_id_and_the_arguments_are_taken(spec, found):
    assert with_spec(spec).environment() == found


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"id": "payload:X-v0"}, "by the code 'payload:X-v0', which is not imported .* --env"),
        ({"id": "runs.evil.payload:X-v0"}, "by the code"),
        ({"id": "GymV26Environment-v0", "kwargs": {"env_id": "payload:X-v0"}}, "by the code 'payload:X-v0'"),
        ({"id": "X-v0", "kwargs": {"inner": [{"make": "a:b"}]}}, "by the code 'a:b'"),
        ({"id": "X-v0", "kwargs": {"a:b": 1}}, "by the code 'a:b'"),
        ({"id": ["payload", "X"]}, "name one with --env"),
        ({"id": "X-v0", "kwargs": "payload"}, "name one with --env"),
        ({"kwargs": {}}, "name one with --env"),
        ([], "name one with --env"),
        (7, "name one with --env"),
    ],
)
def test_a_spec_that_names_code_or_nothing_is_refused(spec, said):
    with pytest.raises(ValueError, match=said):
        with_spec(json.dumps(spec)).environment()


def test_what_is_no_json_is_no_environment():
    with pytest.raises(ValueError, match="name one with --env"):
        with_spec("payload:X-v0").environment()


@pytest.mark.parametrize(("env_id", "said"), [("payload:X-v0", "by the code"), ("X-v0", "not registered here")])
def test_a_bench_imports_no_module_because_a_checkpoint_names_it(tmp_path, monkeypatch, capsys, env_id, said):
    checkpoint = save_checkpoint(tmp_path / "evil", "discrete")
    (tmp_path / "payload.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    header = StoreHeader.load(tmp_path / "evil" / CONTEXTS)
    header = dataclasses.replace(header, env_spec=json.dumps({"id": env_id, "kwargs": {}}))
    (tmp_path / "evil" / CONTEXTS / HEADER).write_text(header.to_json())
    with pytest.raises(SystemExit) as stop:
        main(["bench", "retrieval", "--checkpoints", checkpoint, "--out", str(tmp_path / "bench")])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and said in error and "--env" in error and "Traceback" not in error
    assert not (tmp_path / "imported").exists()
