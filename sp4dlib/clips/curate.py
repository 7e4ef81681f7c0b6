"""What belongs in a data set: how much a motion moves, and whether nearly the same is there already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sp4dlib.clips.clip import Parts
from sp4dlib.clips.looks import SPOTS, color_distance, color_quantiles, face_colors
from sp4dlib.clips.parts import vertex_areas
from sp4dlib.rigs.rig import Animation, Rig

CELLS = 8               # of a side of the box in which a signature counts surface
MOMENTS = 4             # of an animation that a signature looks at
LIKENESS = 0.995        # of surface and motion, above which two things may be the same
COLOR = 5.0             # units of CIELAB, below which they are


def part_motion(vertices: np.ndarray, faces: np.ndarray, parts: Parts, size: float) -> float:
    """How far the part that moves most strays from its usual place, in object sizes.

    Of each part, the distances of its points from their mean place over time are averaged over points and frames: a
    sphere that spins moves, and so does a body that travels as a whole.

    Parameters
    ----------
    vertices : ndarray, shape (T, N, 3)
    faces : ndarray of int, shape (F, 3)
    parts : Parts
    size : float
        Of the object, in the units of ``vertices``.
    """
    areas = vertex_areas(vertices[:1], faces)[0]
    away = vertices - vertices.mean(0)
    distance = np.sqrt(np.einsum("tnc,tnc->tn", away, away)).mean(0)
    total = np.bincount(parts.labels, areas, len(parts))
    moved = np.bincount(parts.labels, areas * distance, len(parts))
    return float((moved[total > 0] / total[total > 0]).max() / size)


@dataclass(frozen=True)
class Signature:
    """What a rig in motion looks like, whatever its mesh, skeleton, names and cameras.

    Attributes
    ----------
    places : ndarray of float32, shape (M,)
        Square roots of the share of the surface in each cell of a grid over the box of all frames, for four moments
        of the animation. As a vector it has length 1, so that a product of two is their likeness (Bhattacharyya).
    colors : ndarray of float32, shape (16, 3)
        Quantiles of the surface's base colour in CIELAB.
    """

    places: np.ndarray
    colors: np.ndarray

    def __post_init__(self) -> None:
        for name in ("places", "colors"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float32))


def signature(rig: Rig, animation: Animation | str | int | None) -> Signature:
    """The signature of a rig in one of its animations, or at bind pose."""
    chosen = rig.animation(animation)
    times = np.arange(MOMENTS) / MOMENTS * (chosen.duration if chosen else 0)
    corners = rig.pose(chosen, times)[:, rig.faces]                                 # (T, F, 3, 3)
    area = np.linalg.norm(np.cross(corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :]),
                          axis=-1)                                                  # (T, F)
    points = np.einsum("sk,tfkc->tfsc", SPOTS, corners).reshape(MOMENTS, -1, 3)
    low, high = points.min((0, 1)), points.max((0, 1))
    place = (points - (low + high) / 2) / max((high - low).max(), 1e-12) * (CELLS - 1) + (CELLS - 1) / 2
    weight = np.repeat(area / np.maximum(area.sum(1, keepdims=True), 1e-300), len(SPOTS), axis=1) / len(SPOTS)
    counts = np.stack([_spread(p, w) for p, w in zip(place, weight)]) / MOMENTS
    colors = face_colors(rig.faces, rig.appearance).reshape(-1, 3)
    return Signature(np.sqrt(counts).ravel(), color_quantiles(colors, np.repeat(area[0], len(SPOTS))))


def _spread(place: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weights (P,) at places (P, 3) in [0, CELLS - 1], shared by the eight cells round each; shape (CELLS^3,)."""
    low = np.clip(np.floor(place), 0, CELLS - 2).astype(np.int64)
    share = np.stack([1 - (place - low), place - low])                              # (2, P, 3)
    out = np.zeros(CELLS**3)
    for x in (0, 1):
        for y in (0, 1):
            for z in (0, 1):
                cell = ((low[:, 0] + x) * CELLS + low[:, 1] + y) * CELLS + low[:, 2] + z
                out += np.bincount(cell, weight * share[x, :, 0] * share[y, :, 1] * share[z, :, 2], CELLS**3)
    return np.maximum(out, 0)


def twins(signatures: Sequence[Signature], likeness: float = LIKENESS, color: float = COLOR,
          block: int = 512) -> list[int]:
    """What :class:`Kept` decides of many signatures in their order, at the speed of matrix products.

    Parameters
    ----------
    signatures : sequence of Signature
    likeness, color : float
        As for :class:`Kept`.
    block : int
        Signatures that are compared at once: bounds memory, not results.

    Returns
    -------
    list of int
        For each the number of its twin among those kept before it; -1 for those that are kept.
    """
    out = np.full(len(signatures), -1)
    places = np.stack([each.places for each in signatures]) if signatures else np.zeros((0, 1))
    for start in range(0, len(out), block):
        alike = places[start:start + block] @ places[:start + block].T
        for number, row in enumerate(alike, start):
            others = np.flatnonzero((row[:number] > likeness) & (out[:number] < 0))
            for other in others[np.argsort(-row[others], kind="stable")]:
                if color_distance(signatures[other].colors, signatures[number].colors) < color:
                    out[number] = other
                    break
    return out.tolist()


class Kept:
    """Signatures of what a data set holds.

    Parameters
    ----------
    likeness : float
        Surface and motion above this likeness, in [0, 1], count as the same.
    color : float
        If the colours also differ by less than this, in units of CIELAB: the same animal in another coat stays.
    """

    def __init__(self, likeness: float = LIKENESS, color: float = COLOR) -> None:
        self.likeness, self.color = likeness, color
        self.names: list[str] = []
        self._places = np.zeros((0, MOMENTS * CELLS**3), np.float32)
        self._colors: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(self.names)

    def twin(self, new: Signature) -> str | None:
        """Name of the most similar thing that is nearly the same, or None."""
        likeness = self._places[:len(self)] @ new.places
        for number in np.argsort(-likeness, kind="stable"):
            if likeness[number] <= self.likeness:
                return None
            if color_distance(self._colors[number], new.colors) < self.color:
                return self.names[number]
        return None

    def add(self, name: str, new: Signature) -> str | None:
        """Keep ``new`` unless it has a twin, whose name is returned."""
        twin = self.twin(new)
        if twin is None:
            if len(self) == len(self._places):              # double the room: one row each time would copy them all
                more = np.zeros((max(64, len(self)), self._places.shape[1]), np.float32)
                self._places = np.concatenate([self._places, more])
            self._places[len(self)] = new.places
            self._colors.append(new.colors)
            self.names.append(name)
        return twin
