"""Gymnasium spaces as JSON, the array layout of actions that follows from a space, and what an observation holds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium import spaces

BOX_DTYPES = ("uint8", "float32", "float64")
CHANNELS = (1, 3, 4)
"""Of images."""
LARGEST = float(np.finfo(np.float32).max)
Layout = Literal["HWC", "CHW", "HW"]
"""Of images: with channels last, with channels first, grey."""


def space_to_json(space: gym.Space) -> dict[str, Any]:
    """A JSON value that `space_from_json` turns back into an equal space, MultiBinary(n) into MultiDiscrete([2] * n).

    Raises:
        ValueError: for any space but Discrete, MultiDiscrete, one-dimensional MultiBinary, and Box of uint8 or float.
    """
    space = as_choices(space)
    if isinstance(space, spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {"type": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": space.start.tolist()}
    if isinstance(space, spaces.Box) and space.dtype is not None and space.dtype.name in BOX_DTYPES:
        low, high = (_bounds_to_json(bound) for bound in (space.low, space.high))
        return {"type": "Box", "shape": list(space.shape), "dtype": space.dtype.name, "low": low, "high": high}
    raise ValueError(
        f"Space {space} is not supported; use Discrete, MultiDiscrete, MultiBinary, or Box of {', '.join(BOX_DTYPES)}."
    )


def space_from_json(d: dict[str, Any]) -> gym.Space:
    """Inverse of `space_to_json`.

    Raises:
        ValueError: for an unknown or incomplete description.
    """
    try:
        if d["type"] == "Discrete":
            return spaces.Discrete(d["n"], start=d["start"])
        if d["type"] == "MultiDiscrete":
            return spaces.MultiDiscrete(np.array(d["nvec"]), start=np.array(d["start"]))
        if d["type"] == "Box":
            dtype: Any = np.dtype(d["dtype"]).type
            low, high = (np.broadcast_to(_bounds_from_json(d[k], dtype), d["shape"]) for k in ("low", "high"))
            return spaces.Box(low, high, shape=tuple(d["shape"]), dtype=dtype)
    except (KeyError, TypeError) as error:
        raise ValueError(f"Space description {d!r} is incomplete or wrong ({error!r}).") from error
    raise ValueError(f"Space type {d['type']!r} is not supported; use Discrete, MultiDiscrete or Box.")


def observation_to_json(space: gym.Space) -> dict[str, Any]:
    """A JSON value that `observation_from_json` turns back into an equal space: a Dict of such, or Discrete,
    MultiDiscrete, MultiBinary, or Box of any kind of number.

    Raises:
        ValueError: for another space.
    """
    if isinstance(space, spaces.Dict):
        return {"type": "Dict", "spaces": {key: observation_to_json(part) for key, part in space.items()}}
    if isinstance(space, spaces.MultiBinary):
        return {"type": "MultiBinary", "n": space.n if isinstance(space.n, int) else list(space.shape)}
    if isinstance(space, spaces.MultiDiscrete):
        return {**space_to_json(space), "dtype": np.dtype(space.dtype).name}
    if isinstance(space, spaces.Box):
        low, high = (_bounds_to_json(bound) for bound in (space.low, space.high))
        return {
            "type": "Box", "shape": list(space.shape), "dtype": np.dtype(space.dtype).name, "low": low, "high": high
        }  # fmt: skip
    return space_to_json(space)


def observation_from_json(d: dict[str, Any]) -> gym.Space:
    """Inverse of `observation_to_json`.

    Raises:
        ValueError: for an unknown or incomplete description.
    """
    try:
        if d["type"] == "Dict":
            return spaces.Dict({str(key): observation_from_json(part) for key, part in d["spaces"].items()})
        if d["type"] == "MultiBinary":
            return spaces.MultiBinary(d["n"])
        if d["type"] == "MultiDiscrete" and "dtype" in d:
            dtype: Any = np.dtype(d["dtype"]).type
            return spaces.MultiDiscrete(np.array(d["nvec"]), dtype=dtype, start=np.array(d["start"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"Space description {d!r} is incomplete or wrong ({error!r}).") from error
    return space_from_json(d)


def action_layout(space: gym.Space) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of one stored action: () int64 for Discrete, (A,) int64 for MultiDiscrete, (A,) float32 for Box.

    Raises:
        ValueError: for other spaces and for MultiDiscrete or Box with more than one dimension.
    """
    space = as_choices(space)
    if isinstance(space, spaces.Discrete):
        return (), np.dtype(np.int64)
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
        return space.nvec.shape, np.dtype(np.int64)
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        return space.shape, np.dtype(np.float32)
    raise ValueError(
        f"Action space {space} is not supported; use Discrete, or one-dimensional MultiDiscrete, MultiBinary or Box."
    )


def as_choices(space: gym.Space) -> gym.Space:
    """MultiBinary (n,) as the MultiDiscrete that its actions are in, too; other spaces as they are."""
    if isinstance(space, spaces.MultiBinary) and len(space.shape) == 1:
        return spaces.MultiDiscrete([2] * space.shape[0])
    return space


def image_layout(space: gym.Space) -> Layout | None:
    """How uint8 images with 1, 3 or 4 channels lie in their array; None if observations are no images."""
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8 or 0 in space.shape:
        return None
    if len(space.shape) == 3:
        return "HWC" if space.shape[2] in CHANNELS else "CHW" if space.shape[0] in CHANNELS else None
    return "HW" if len(space.shape) == 2 else None


def is_image(space: gym.Space) -> bool:
    """Whether observations are uint8 images (H, W, C) with 1, 3 or 4 channels."""
    return image_layout(space) == "HWC"


def image_key(space: gym.Space) -> str | None:
    """Where the one image of an observation is: None if the observation is the image, else its key in the Dict.

    Raises:
        ValueError: if the observation holds no image or more than one.
    """
    if is_image(space):
        return None
    keys = [k for k, s in space.spaces.items() if is_image(s)] if isinstance(space, spaces.Dict) else []
    if len(keys) == 1:
        return keys[0]
    if keys:
        raise _several(space, keys)
    raise ValueError(
        f"Observation space {space} holds no image; wrap the environment so that it gives one uint8 image (H, W, C), "
        "for example with gymnasium.wrappers.AddRenderObservation."
    )


def chosen_image(space: gym.Space, key: str | None = None) -> tuple[str | None, Layout]:
    """Where an observation's image is, and how it lies there, before it is made an image (H, W, C).

    Args:
        key: which image of a Dict; without one, the only one, or the only one with its channels last.

    Raises:
        ValueError: if there is no such image, none, or no telling which one.
    """
    parts = space.spaces if isinstance(space, spaces.Dict) else {None: space}
    found = {name: layout for name, part in parts.items() if (layout := image_layout(part)) is not None}
    if key is not None:
        if key not in found:
            names = ", ".join(name for name in found if name is not None) or "no key of an image"
            raise ValueError(
                f"There is no uint8 image (H, W), (H, W, C) or (C, H, W) under the key {key!r} in {space}; it has "
                f"{names}."
            )
        return key, found[key]
    last = {name: layout for name, layout in found.items() if layout == "HWC"} or found
    if len(last) == 1:
        return next(iter(last.items()))
    if not found:
        image_key(space)
    raise _several(space, last)


def _several(space: gym.Space, keys: Iterable[str | None]) -> ValueError:
    return ValueError(
        f"Observation space {space} holds several images ({', '.join(map(str, keys))}); say which one with --image KEY "
        "(of lssvwm_envs.image.AsImage)."
    )


def image_shape(space: gym.Space) -> tuple[int, ...]:
    """Shape (H, W, C) of the one image of an observation.

    Raises:
        ValueError: if there is not exactly one.
    """
    key = image_key(space)
    image = space[key] if isinstance(space, spaces.Dict) and key is not None else space
    assert image.shape is not None
    return tuple(image.shape)


def find_images(observation: Any) -> Any:
    """The images in a batch of observations of an unknown space: the array itself, or the one of uint8 in a dict.

    Raises:
        ValueError: if a dict holds no image (n, H, W, C) of uint8 with 1, 3 or 4 channels, or more than one.
    """
    if not isinstance(observation, dict):
        return observation
    images = [part for part in observation.values() if _are_images(part)]
    if len(images) != 1:
        raise ValueError(f"The observation ({', '.join(observation)}) must hold one image, not {len(images)}.")
    return images[0]


def _are_images(part: Any) -> bool:
    # A batch of texts is a tuple.
    return isinstance(part, np.ndarray) and part.dtype == np.uint8 and part.ndim == 4 and part.shape[3] in CHANNELS


def image_of(observation: Any, key: str | None) -> Any:
    """The image in an observation, single or batched; `key` is what `image_key` found."""
    return observation if key is None else observation[key]


def check_image(image: Any, space: gym.Space) -> None:
    """Raise ValueError unless an environment's image (H, W, C) is the array that its space says."""
    shape, dtype = getattr(image, "shape", None), getattr(image, "dtype", None)
    if shape != space.shape or dtype != space.dtype:
        got = type(image).__name__ if shape is None else f"{shape} {dtype}"
        raise ValueError(
            f"The environment declares images {space.shape} {space.dtype} and gives {got}; let it give what its "
            "observation_space says."
        )


def sb3_space(space: gym.Space) -> gym.Space:
    """The space that Stable-Baselines3 is shown instead: its numbers count from 0, not from `start`, and its bounds are
    finite, if only just."""
    if isinstance(space, spaces.Box) and not space.is_bounded():
        low, high = space.low.clip(min=-LARGEST), space.high.clip(max=LARGEST)
        return spaces.Box(low, high, dtype=_type_of(space))
    space = as_choices(space)
    if isinstance(space, spaces.Discrete) and space.start != 0:
        return spaces.Discrete(int(space.n))
    if isinstance(space, spaces.MultiDiscrete) and space.start.any():
        return spaces.MultiDiscrete(space.nvec)
    return space


def first_action(space: gym.Space) -> Any:
    """What is added to an action of `sb3_space(space)` to make it one of the space: a number or (A,), 0 for a Box."""
    return space.start if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)) else 0


def counted_from(actions: np.ndarray, policy: Any, space: gym.Space) -> np.ndarray:
    """Actions (n[, A]) of a policy as the environment takes them.

    They are shifted if the policy says, by its `action_space`, that it counts from 0 what the environment counts from
    its `start`, as all of Stable-Baselines3's do.
    """
    counts_from_zero = sb3_space(space) != space and getattr(policy, "action_space", None) == sb3_space(space)
    return actions + first_action(space) if counts_from_zero else actions


def read_vector(key: str, observation: Any, info: dict[str, Any], n: int, rows: np.ndarray | None = None) -> np.ndarray:
    """(n, size) float32 of a key of the observation or of `info`.

    Args:
        rows: (n,) bool, which of them are meant; all if None. The others are 0.

    Raises:
        ValueError: if neither has the key for one of these rows, or what it holds is not numeric.
    """
    rows = np.ones(n, bool) if rows is None else rows
    value, has = observation.get(key) if isinstance(observation, dict) else None, np.ones(n, bool)
    if value is None:
        # Rows that an info does not speak of hold zeros in it; its mask says which they are.
        value, has = info.get(key), np.asarray(info.get(f"_{key}", has))
    if value is None or not has[rows].all():
        names = {*(observation if isinstance(observation, dict) else ()), *(k for k in info if k[0] != "_")} - {key}
        raise ValueError(
            f"There is no vector {key!r}; observation and info have {', '.join(sorted(names)) or 'no other'}. It has "
            "to be there at every reset and step."
        )
    try:
        if isinstance(value, np.ndarray) and value.dtype.hasobject:  # lists in the infos of single environments
            picked = np.asarray(list(value[rows]), np.float32).reshape(int(rows.sum()), -1)
        else:
            picked = np.asarray(value, np.float32).reshape(n, -1)[rows]
    except (TypeError, ValueError) as error:
        raise ValueError(f"The vector {key!r} is not numeric ({error}); name another key.") from error
    found = np.zeros((n, picked.shape[1]), np.float32)
    found[rows] = picked
    return found


def read_vectors(
    keys: Sequence[str], observation: Any, info: dict[str, Any], n: int, rows: np.ndarray | None = None
) -> np.ndarray:
    """(n, V) float32, the vectors of several keys side by side, see `read_vector`."""
    parts = (read_vector(key, observation, info, n, rows) for key in keys)
    return np.concatenate([np.zeros((n, 0), np.float32), *parts], axis=1)


def unseen(keys: Sequence[str], observation: Any) -> tuple[str, ...]:
    """Those of the keys that an observation, or its space, does not hold: agents do not see what is in `info`."""
    parts = observation.spaces if isinstance(observation, spaces.Dict) else observation
    return tuple(key for key in keys if not isinstance(parts, dict) or key not in parts)


def _type_of(space: spaces.Box) -> Any:
    return np.dtype(space.dtype).type


def _bounds_to_json(bounds: np.ndarray) -> Any:
    # Strict JSON has no infinity, so infinite bounds are strings; uniform bounds shrink to one number.
    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(v) for v in value]
        return value if math.isfinite(value) else str(value)

    uniform = bounds.size > 0 and bool((bounds == bounds.flat[0]).all())
    return plain(bounds.flat[0].item() if uniform else bounds.tolist())


def _bounds_from_json(bounds: Any, dtype: Any) -> np.ndarray:
    def number(value: Any) -> Any:
        return (
            [number(v) for v in value] if isinstance(value, list) else float(value) if isinstance(value, str) else value
        )

    return np.asarray(number(bounds), dtype=dtype)
