"""One array of a shard: a file of compressed chunks of rows, of which a read takes those that it needs.

It is Zarr version 3, and Zarr writes it: one file per array (Zarr's sharding codec), chunks along the first axis, and
at the end of the file a table of where they are
(https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html). Zarr's own way to read it goes
through a thread per chunk, which for 128 frames takes four times as long as decompressing them; here is only what this
layout needs. Nothing is kept open between reads, so that processes may be forked and arrays sent to others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import google_crc32c
import numcodecs.blosc
import numcodecs.zstd
import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from lssvwm_rl.data.remote import AnyPath, read_ranges, relative, size_of

CHUNK_BYTES = 256 * 1024  # before compression
METADATA = "zarr.json"
EMPTY = np.iinfo(np.uint64).max  # in the table, of a chunk that is all zeros and was not written
SMALL = (ZstdCodec(level=3, checksum=True),)
QUICK = (BloscCodec(typesize=1, cname="lz4hc", clevel=6, shuffle="noshuffle"), Crc32cCodec())
QUICK_UP_TO = 1.25
"""`QUICK` is taken where it needs up to so many times the bytes of `SMALL`. It is decompressed 1.7 to 3.3 times as
fast (benchmarks/speed/clips.py). For frames of MiniGrid it needs 0.9 to 1.3 times the bytes, depending on how often
whole views come back, and for those of Memory Maze 1.2 to 1.3 times."""

numcodecs.blosc.use_threads = False  # threads of its own do not survive a fork


@dataclass(frozen=True)
class ArrayFile:
    """An array that can be read.

    Attributes:
        path: its file.
        shape, dtype: of the whole array.
        rows: per chunk.
        table: (chunks, 2) uint64, where each begins in the file, and its bytes; `EMPTY` if it was not written.
        codecs: of a chunk, from the array to the file.
    """

    path: AnyPath
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    rows: int
    table: np.ndarray
    codecs: tuple[str, ...]

    @classmethod
    def open(cls, folder: AnyPath, zeros_left_out: bool = False) -> ArrayFile:
        """Open the array in a folder.

        Args:
            zeros_left_out: whether an array of zeros may have no file, as Zarr leaves it if it is not told otherwise.

        Raises:
            ValueError: beginning with the file that is missing, broken, or not laid out as `write_array` does it.
        """
        shape, dtype = layout(folder)
        try:
            metadata = json.loads((folder / METADATA).read_text())
            (sharding,) = metadata["codecs"]
            inner = sharding["configuration"]
            codecs = tuple(codec["name"] for codec in inner["codecs"])
            rows, count = int(inner["chunk_shape"][0]), metadata["chunk_grid"]["configuration"]["chunk_shape"][0]
            same = (sharding["name"], inner["index_location"], not metadata["fill_value"], inner["chunk_shape"][1:])
            fine = same == ("sharding_indexed", "end", True, [*shape[1:]]) and codecs[1] in CODECS and rows > 0
            fine = fine and codecs[0] == "bytes" and codecs[2:] in ((), ("crc32c",)) and count >= shape[0]
        except (KeyError, ValueError, TypeError, IndexError):
            fine = False
        if not fine:
            raise ValueError(f"{folder.name}/{METADATA} is broken, or not of a store")
        path = folder.joinpath("c", *["0"] * len(shape))
        chunks = math.ceil(count / rows)
        name = relative(path, folder.parent)
        end = size_of(path)
        if end is not None:
            table = _table(path, end, chunks, name)
        elif zeros_left_out and not (folder / "c").exists():
            table = np.full((chunks, 2), EMPTY)
        else:
            raise ValueError(f"{name} is missing")
        return cls(path, shape, dtype, rows, table, codecs)

    @property
    def nbytes(self) -> int:
        """What this takes in memory."""
        return self.table.nbytes

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Rows from start to stop, which are inside the array.

        Raises:
            ValueError: if one of their chunks is broken.
            OSError: if the file cannot be read.
        """
        start, stop, _ = rows.indices(self.shape[0])
        out = np.empty((max(0, stop - start), *self.shape[1:]), self.dtype)
        if not out.size:
            return out
        chunks = range(start // self.rows, (stop - 1) // self.rows + 1)
        for k, data in zip(chunks, self._compressed(chunks), strict=True):
            begin = k * self.rows
            a, b = max(begin, start), min(begin + self.rows, stop)
            place = out[a - start : b - start]
            if data is None:
                place[...] = 0
            elif b - a == self.rows:
                self._decompress(data, place)
            else:
                chunk = np.empty((self.rows, *self.shape[1:]), self.dtype)
                self._decompress(data, chunk)
                place[...] = chunk[a - begin : b - begin]
        return out

    def check(self) -> None:
        """Decompress everything; raises ValueError or OSError as reading does."""
        for start in range(0, self.shape[0], self.rows):
            _ = self[start : start + self.rows]

    def _compressed(self, chunks: range) -> list[bytes | None]:
        """Bytes of some chunks, None for those that were not written."""
        places = self.table[chunks.start : chunks.stop].tolist()
        if all(size == EMPTY for _, size in places):
            return [None] * len(places)
        found: list[bytes | None] = []
        written = [(at, at + size) for at, size in places if size != EMPTY]
        parts = iter(read_ranges(self.path, written))
        for _, size in places:
            found.append(None if size == EMPTY else next(parts))
            if size != EMPTY and len(found[-1] or b"") != size:
                raise ValueError("a chunk is cut")
        return found

    def _decompress(self, data: bytes, out: np.ndarray) -> None:
        if self.codecs[-1] == "crc32c":
            data, checksum = data[:-4], data[-4:]
            if google_crc32c.value(data) != int.from_bytes(checksum, "little"):
                raise ValueError("the checksum of a chunk is another")
        decompress, size_of = CODECS[self.codecs[1]]
        # Said by the chunk itself, and asked first: what is smaller would leave a part of `out` as it is.
        if size_of(data) != out.nbytes:
            raise ValueError(f"a chunk has not {out.nbytes} bytes")
        decompress(data, out.reshape(-1).view(np.uint8))


def write_array(group: zarr.Group, name: str, data: np.ndarray) -> None:
    """Write an array of at least one row."""
    row_bytes = max(1, data.nbytes // len(data))
    rows = max(1, min(CHUNK_BYTES // row_bytes, len(data)))
    chunks = (rows, *data.shape[1:])
    shards = (rows * math.ceil(len(data) / rows), *data.shape[1:])  # one file for the whole array
    array = group.create_array(
        name,
        shape=data.shape,
        dtype=data.dtype,
        chunks=chunks,
        shards=shards,
        compressors=_codecs(data, rows),
        config={"write_empty_chunks": True},  # so that a file that is missing is no file of zeros
    )
    array[:] = data


def _codecs(data: np.ndarray, rows: int) -> tuple[Any, ...]:
    """`QUICK` or `SMALL`, by what they make of four chunks."""
    starts = np.linspace(0, len(data) - rows, 4).astype(int)
    chunks = [np.ascontiguousarray(data[start : start + rows]) for start in dict.fromkeys(starts.tolist())]
    quick, small = numcodecs.blosc.Blosc("lz4hc", QUICK[0].clevel, 0), numcodecs.zstd.Zstd(SMALL[0].level, True)
    sizes = [sum(len(codec.encode(chunk.view(np.uint8))) for chunk in chunks) for codec in (quick, small)]
    return QUICK if sizes[0] <= QUICK_UP_TO * sizes[1] else SMALL


def layout(folder: AnyPath) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of the array in a folder.

    Raises:
        ValueError: if its metadata is missing or broken.
    """
    path = folder / METADATA
    try:
        metadata = json.loads(path.read_text())
        return tuple(int(size) for size in metadata["shape"]), np.dtype(metadata["data_type"]).newbyteorder("<")
    except FileNotFoundError as error:
        raise ValueError(f"{folder.name}/{METADATA} is missing") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder.name}/{METADATA} is broken") from error


def _table(path: AnyPath, end: int, chunks: int, name: str) -> np.ndarray:
    """Of a file of `end` bytes."""
    size = 16 * chunks
    (data,) = read_ranges(path, [(max(0, end - size - 4), end)])
    if len(data) != size + 4 or google_crc32c.value(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise ValueError(f"{name} is broken: its table of chunks has changed")
    table = np.frombuffer(data, "<u8", 2 * chunks).reshape(chunks, 2)
    written = table[table[:, 1] != EMPTY]
    if (written > end).any() or (written.sum(axis=1) > end).any():
        raise ValueError(f"{name} is broken: its table of chunks has changed")
    return table


def _zstd_size(data: bytes) -> int:
    """Bytes that a Zstandard frame decompresses to, -1 if it does not say so (RFC 8878, section 3.1.1.1)."""
    if len(data) < 14 or data[:4] != b"\x28\xb5\x2f\xfd":
        return -1
    descriptor = data[4]
    single_segment = descriptor >> 5 & 1
    at = 6 - single_segment + (0, 1, 2, 4)[descriptor & 3]  # behind the window and the dictionary
    field = (single_segment, 2, 4, 8)[descriptor >> 6]
    size = int.from_bytes(data[at : at + field], "little") if field else -1
    return size + 256 if field == 2 else size


def _blosc_size(data: bytes) -> int:
    """Bytes that a Blosc chunk decompresses to, -1 if it has no header."""
    return int.from_bytes(data[4:8], "little") if len(data) >= 16 else -1


CODECS: dict[str, tuple[Callable[[bytes, Any], Any], Callable[[bytes], int]]] = {
    "zstd": (numcodecs.zstd.decompress, _zstd_size),
    "blosc": (numcodecs.blosc.decompress, _blosc_size),
}
"""What undoes a codec, and what says before how many bytes that will be."""
