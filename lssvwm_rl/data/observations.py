"""How observations of several parts lie in a store, whose frames are one image and a vector each, and back again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from lssvwm_rl.data.episode import StoreHeader
from lssvwm_rl.spaces import Layout, chosen_image, image_layout, observation_from_json, observation_to_json

WITHIN = "."  # between the keys of a Dict in a Dict


@dataclass(frozen=True)
class Parts:
    """What a store keeps of an observation space.

    Attributes:
        space: what is kept of it.
        image: name of the image, None if the observation is the image. A part of a Dict in a Dict is "outer.inner".
        order: how the image lies in its array.
        vectors: name -> space of what becomes the frame's vector, in this order.
        left_out: names of what is not kept: texts, sequences, further images.
    """

    space: gym.Space
    image: str | None
    order: Layout
    vectors: dict[str, gym.Space]
    left_out: tuple[str, ...]

    @property
    def sizes(self) -> dict[str, int]:
        """Numbers of each part of the vector, for `StoreHeader.vector_keys`."""
        return {name: math.prod(space.shape or ()) for name, space in self.vectors.items()}

    def to_json(self, resized: tuple[int, int, int] | None = None) -> dict[str, Any]:
        """For `StoreHeader.observation_space`; `resized` is the shape of the frames if they have another size."""
        if resized is None:
            return observation_to_json(self.space)
        image = spaces.Box(0, 255, resized, np.uint8)
        kept = _kept(self.space, "", lambda name, part: image if name == (self.image or "") else part)
        assert kept is not None
        return observation_to_json(kept)

    def frames(self, observations: Any) -> np.ndarray:
        """Images (N, H, W, C) of N observations, given as arrays in dicts."""
        image = np.asarray(_named(observations, self.image))
        if self.order == "HW":
            return image[..., None]
        return np.moveaxis(image, 1, -1) if self.order == "CHW" else image

    def vectors_of(self, observations: Any) -> np.ndarray | None:
        """(N, V) of N observations, in the dtype that holds them all; None if nothing belongs to them."""
        if not self.vectors:
            return None
        columns = [np.asarray(_named(observations, name)) for name in self.vectors]
        return np.concatenate([column.reshape(len(column), -1) for column in columns], axis=1)


def parts_of(space: gym.Space, image: str | None = None) -> Parts:
    """See `Parts`.

    Args:
        image: name of the image; without it the only one, or the only one with its channels last.

    Raises:
        ValueError: if there is no such image, none, or no telling which one.
    """
    if not isinstance(space, spaces.Dict):
        return Parts(space, None, chosen_image(space, image)[1], {}, ())
    leaves = dict(_leaves(space, ""))
    key, order = chosen_image(spaces.Dict(leaves), image)
    vectors = {name: part for name, part in leaves.items() if name != key and _is_vector(part)}
    left_out = tuple(name for name in leaves if name != key and name not in vectors)
    kept = _kept(space, "", lambda name, part: part if name == key or name in vectors else None)
    assert kept is not None
    return Parts(kept, key, order, vectors, left_out)


def only(parts: Parts, names: tuple[str, ...] | None) -> Parts:
    """With these vectors alone, in this order; as it is for None.

    Raises:
        ValueError: if there is no such part, or it is not numbers.
    """
    if names is None:
        return parts
    missing = [name for name in names if name not in parts.vectors]
    if missing:
        found = ", ".join(parts.vectors) or "none"
        raise ValueError(f"The observation has no numbers under the key {missing[0]!r}; it has {found}.")
    space = _kept(parts.space, "", lambda name, part: None if name in parts.vectors and name not in names else part)
    assert space is not None
    return replace(parts, space=space, vectors={name: parts.vectors[name] for name in names})


def parts_of_store(header: StoreHeader) -> Parts:
    """Those of the observations that a store's frames and vectors were taken from, as far as it knows.

    A store that does not say it has a Dict of "image" and its vectors, or images alone.
    """
    if header.observation_space is not None:
        found = parts_of(observation_from_json(header.observation_space))
    else:
        image = spaces.Box(0, 255, header.frame_shape, np.uint8)
        sizes = header.vector_keys
        told = {key: spaces.Box(-np.inf, np.inf, (size,), np.float32) for key, size in sizes.items()}
        found = parts_of(spaces.Dict({"image": image, **told}) if told else image, "image" if told else None)
    # Dicts sort their keys; the columns of the vector stay as the store has them.
    return replace(found, vectors={key: found.vectors[key] for key in header.vector_keys})


def observations_of(parts: Parts, frames: np.ndarray, vectors: np.ndarray | None) -> Any:
    """N observations, as arrays in dicts, of frames (N, H, W, C) and vectors (N, V): the inverse of `Parts.frames` and
    `Parts.vectors_of`."""
    image = frames[..., 0] if parts.order == "HW" else np.moveaxis(frames, -1, 1) if parts.order == "CHW" else frames
    if parts.image is None:
        return image
    found: dict[str, np.ndarray] = {parts.image: image}
    begin = 0
    for (name, space), size in zip(parts.vectors.items(), parts.sizes.values(), strict=True):
        assert vectors is not None and space.shape is not None
        columns = vectors[:, begin : begin + size]
        found[name] = columns.reshape(len(frames), *space.shape).astype(space.dtype)
        begin += size
    return _nested(parts.space, "", found)


def _nested(space: gym.Space, name: str, found: Mapping[str, np.ndarray]) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _nested(part, _inside(name, key), found) for key, part in space.items()}
    return found[name]


def _named(observations: Any, name: str | None) -> Any:
    """The part of that name. Keys may hold dots themselves."""
    if name is None:
        return observations
    if name in observations:
        return observations[name]
    for key, part in observations.items():
        if name.startswith(f"{key}{WITHIN}") and isinstance(part, dict):
            return _named(part, name[len(key) + 1 :])
    raise ValueError(f"An observation has no part {name!r}, only {', '.join(map(str, observations))}.")


def _leaves(space: gym.Space, name: str) -> Iterator[tuple[str, gym.Space]]:
    if isinstance(space, spaces.Dict):
        for key, part in space.items():
            yield from _leaves(part, _inside(name, key))
    else:
        yield name, space


def _kept(space: gym.Space, name: str, chosen: Any) -> gym.Space | None:
    """The space with each leaf as `chosen(name, leaf)`, without those that are None."""
    if not isinstance(space, spaces.Dict):
        return chosen(name, space)
    found = {key: _kept(part, _inside(name, key), chosen) for key, part in space.items()}
    kept = {key: part for key, part in found.items() if part is not None}
    return spaces.Dict(kept) if kept else None


def _inside(name: str, key: str) -> str:
    return f"{name}{WITHIN}{key}" if name else key


def _is_vector(space: gym.Space) -> bool:
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)):
        return True
    return isinstance(space, spaces.Box) and image_layout(space) is None
