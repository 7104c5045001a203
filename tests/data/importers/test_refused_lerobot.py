"""What is wrong with a LeRobot data set is one sentence, and nothing outside of the data set is read."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.recordings import coded, refused, write_frames, write_lerobot

KEY = "videos/observation.images.front"


def lerobot_without(root, name):
    write_lerobot(root, [4, 3])
    next(root.rglob(name)).unlink()


def lerobot_lengths(root):
    """Episode tables that claim a frame more than there are rows."""
    write_lerobot(root, [4, 3])
    path = next((root / "meta/episodes").rglob("*.parquet"))
    found = pq.read_table(path).to_pylist()
    found[1]["length"] += 1
    pq.write_table(pa.Table.from_pylist(found), path)


def lerobot_short_video(root):
    write_lerobot(root, [4, 3])
    write_frames(next(root.rglob("*.mp4")), coded(5), fps=10)


def lerobot_broken(root):
    write_lerobot(root, [4])
    (root / "meta/info.json").write_text("{")


def info(feature=None, **changes):
    """`meta/info.json`, or what it says of a feature, with other values."""

    def make(root):
        write_lerobot(root, [4, 3])
        path = root / "meta/info.json"
        found = json.loads(path.read_text())
        (found if feature is None else found["features"][feature]).update(changes)
        path.write_text(json.dumps(found))

    return make


def changed(part, row, column, value, images=False):
    """A value in the tables of `data` or `meta`; of all rows without a number."""

    def make(root):
        write_lerobot(root, [4, 3], [()] if images else ())
        path = next((root / part).rglob("*.parquet"))
        rows = pq.read_table(path).to_pylist()
        for each in rows if row is None else [rows[row]]:
            each[column] = value
        pq.write_table(pa.Table.from_pylist(rows), path)

    return make


def ragged(root):
    """As many numbers as if each row had two."""
    write_lerobot(root, [4, 3])
    path = next((root / "data").rglob("*.parquet"))
    rows = pq.read_table(path).to_pylist()
    rows[0]["action"], rows[1]["action"] = [1.0], [1.0, 2.0, 3.0]
    pq.write_table(pa.Table.from_pylist(rows), path)


def damaged(images):
    def make(root):
        write_lerobot(root, [4, 3], [()] if images else ())
        path = next((root / "data").rglob("*.parquet"))
        content = bytearray(path.read_bytes())
        content[8:400] = bytes(392)
        path.write_bytes(bytes(content))

    return make


def without_meta(root):
    import shutil

    write_lerobot(root, [4])
    shutil.rmtree(root / "meta")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (without_meta, "meta/info.json, which every LeRobot data set has; copy it there."),
        (info(data_path="data/{other}.parquet"), "has no usable data_path (KeyError('other'))"),
        (info(data_path="data/{"), "has no usable data_path"),
        (info(video_path="../{chunk_index}.mp4"), "'../0.mp4', which is not inside of it; use another data set."),
        (info(fps=0), "fps is 0"),
        (info(fps=-3), "fps is -3"),
        (info("observation.state", shape=None), "info.json cannot be read"),
        (info("observation.state", shape=[7]), "has 2 numbers in a row, and 7 in"),
        (info("observation.state", dtype=None), "a feature has the dtype None and the shape [2]"),
        (changed("meta", 0, "length", None), "'length' is None in a row of"),
        (changed("meta", None, "length", "long"), "'length' is 'long' in a row of"),
        (changed("meta", 1, f"{KEY}/from_timestamp", None), "from_timestamp' is None in a row of"),
        (changed("meta", 1, "episode_index", None), "'episode_index' is None in a row of"),
        (changed("meta", 1, "episode_index", 0), "Episode 0 is twice in the tables of"),
        (changed("data", 1, "next.reward", None), "The reward of step 1 of episode 0 of"),
        (changed("data", 1, "action", [float("nan"), 1.0]), "The action of step 1 of episode 0 of"),
        (changed("data", 1, "action", None), "is not numbers, as many in each row; name another feature."),
        (ragged, "is not numbers, as many in each row; name another feature."),
        (changed("data", None, "observation.images.front", "here.png", images=True), "An image of episode 0 in"),
        (
            changed("data", None, "observation.images.front", {"bytes": None, "path": "/etc/passwd"}, images=True),
            "speaks of the file '/etc/passwd', which is not inside of it",
        ),
        (damaged(images=False), "file-000.parquet cannot be read"),
        (damaged(images=True), "file-000.parquet cannot be read"),
        (lambda root: write_lerobot(root, [3], version="v2.1"), "is a LeRobot data set of version v2.1, and v3.0"),
        (lambda root: lerobot_without(root, "*.mp4"), "file-000.mp4, where episode 0 should be; copy it there."),
        (lerobot_lengths, "has 3 rows of episode 1, which has 4 frames"),
        (lerobot_short_video, "has 2 frames of episode 1 of"),
        (lambda root: write_lerobot(root, [3, 1]), "has no two frames"),
        (lerobot_broken, "info.json cannot be read"),
    ],
)
def test_lerobot_data_sets_that_cannot_be_read(make, said, tmp_path, capsys):
    make(tmp_path / "source")
    refused(tmp_path, capsys, said)
