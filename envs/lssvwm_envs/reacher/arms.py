"""Many arms at once: joints, distances and pictures, without Gymnasium. Arrays are never changed in place."""

from __future__ import annotations

import numpy as np

LINK = 0.5  # length of both links; the arm reaches as far as 1
TURN = 0.25  # radians that a joint turns in a step at full speed
NEAREST, FURTHEST = 0.25, 0.95  # of targets, from the shoulder
VIEW = 1.1  # half of the picture's side
HALF_WIDTH, TARGET_RADIUS = 0.07, 0.14  # of a link, and of the target, which is seen on both sides of it
BACKGROUND, TARGET, UPPER, LOWER = (
    np.array(rgb, np.float64) for rgb in ((24, 26, 32), (230, 60, 50), (70, 130, 220), (240, 200, 70))
)


def draw_worlds(generators: list[np.random.Generator]) -> tuple[np.ndarray, np.ndarray]:
    """Where N episodes begin: joint angles (N, 2) float64 uniform in [-pi, pi), and targets (N, 2) float64."""
    drawn = np.array([generator.random(4) for generator in generators]).reshape(-1, 4)
    angles = np.ascontiguousarray(2 * np.pi * drawn[:, :2] - np.pi)
    distance, direction = NEAREST + (FURTHEST - NEAREST) * drawn[:, 2], 2 * np.pi * drawn[:, 3]
    return angles, distance[:, None] * np.stack([np.cos(direction), np.sin(direction)], axis=1)


def turned(angles: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Joint angles (N, 2) after a step at speeds (N, 2) in [-1, 1], in [-pi, pi)."""
    return (angles + TURN * actions.astype(np.float64) + np.pi) % (2 * np.pi) - np.pi


def places(angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Elbow and tip (N, 2) float64 each, the shoulder being at the origin.

    The first angle is the upper link's, counted from the x axis, the second one the lower link's from the upper one.
    """
    direction = np.cumsum(angles, axis=1)
    links = LINK * np.stack([np.cos(direction), np.sin(direction)], axis=2)
    return links[:, 0], links[:, 0] + links[:, 1]


def distances(angles: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """From tip to target, (N,) float64."""
    apart = places(angles)[1] - targets
    return np.hypot(apart[:, 0], apart[:, 1])


def draw_arms(angles: np.ndarray, targets: np.ndarray, pixels: int) -> np.ndarray:
    """(N, pixels, pixels, 3) uint8: the target, over it the upper link and over that the lower one, edges smoothed; y
    points upwards."""
    elbow, tip = places(angles)
    at = ((np.arange(pixels) + 0.5) / pixels * 2 - 1) * VIEW
    x, y = at[None, None, :], -at[None, :, None]
    picture = np.broadcast_to(BACKGROUND, (len(angles), pixels, pixels, 3))
    for colour, radius, start, end in (
        (TARGET, TARGET_RADIUS, targets, targets),
        (UPPER, HALF_WIDTH, np.zeros_like(elbow), elbow),
        (LOWER, HALF_WIDTH, elbow, tip),
    ):
        # How much of a pixel is covered, from how far inside the edge its centre is.
        inside = (radius - _to_segment(x, y, start, end)) * (pixels / (2 * VIEW))
        covered = np.clip(inside + 0.5, 0, 1)[..., None]
        picture = picture + covered * (colour - picture)
    return np.rint(picture).astype(np.uint8)


def _to_segment(x: np.ndarray, y: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Distances (N, H, W) of points from the segments between `start` and `end` (N, 2), which may be points."""
    from_x, from_y, to_x, to_y = (part[:, None, None] for part in (*start.T, *(end - start).T))
    along = ((x - from_x) * to_x + (y - from_y) * to_y) / np.maximum(to_x**2 + to_y**2, 1e-12)
    along = np.clip(along, 0, 1)
    return np.hypot(x - from_x - along * to_x, y - from_y - along * to_y)
