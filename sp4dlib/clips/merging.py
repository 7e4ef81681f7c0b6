"""Which bones move and look alike: SP4D's rule by which neighbouring bones become one kinematic part.

The paper merges a connected pair of bones whose mean relative displacement over all frames and whose dissimilarity of
DINO features both lie under thresholds, which it does not state (arXiv 2509.10687, section 4.1). Here the displacement
is in object sizes, the features are the colours of the surface, and the thresholds are fields of :class:`MergeRule`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sp4dlib.clips.looks import color_distance, color_quantiles, face_colors
from sp4dlib.rigs.rig import Rig


@dataclass(frozen=True)
class MergeRule:
    """When bones are one part.

    ``benchmarks/parts.py`` shows what the defaults rest on: the train and val rigs of the asset list.

    Attributes
    ----------
    motion : float
        Two connected regions may merge if they move against each other by less than this, in object sizes (the
        longest side of the bind pose's box). 0 merges none.
    appearance : float
        And if their colours differ by less than this, in units of CIELAB (2.3 is just noticeable).
    swing : float
        Degrees. A rig without animation is judged as if every joint turned by this much either way.
    frames : int
        Moments of each animation at which motion is measured.
    min_share : float
        Regions below this share of the bind pose's surface are folded into a neighbour, in [0, 1).
    max_parts : int
        An object with more parts is refused.
    """

    motion: float = 0.015
    appearance: float = 14.0
    swing: float = 12.5
    frames: int = 16
    min_share: float = 0.01
    max_parts: int = 100

    def __post_init__(self) -> None:
        for name, low in (("motion", 0), ("appearance", 0), ("swing", 0), ("frames", 2), ("max_parts", 1)):
            if not getattr(self, name) >= low:
                raise ValueError(f"{name} must be at least {low}; got {getattr(self, name)}")
        if not 0 <= self.min_share < 1:
            raise ValueError(f"min_share is a share of the surface, in [0, 1); got {self.min_share}")


RULE = MergeRule()


@dataclass(frozen=True)
class Pair:
    """Two connected regions, each named by its uppermost joint, and how far they differ.

    Attributes
    ----------
    upper, lower : int
        Joints; ``upper`` is the nearest ancestor of ``lower`` that has a region.
    motion : float
        How far they move against each other, in object sizes; see :class:`Regions`.
    appearance : float
        Difference of their colours, in units of CIELAB.
    """

    upper: int
    lower: int
    motion: float
    appearance: float

    def alike(self, rule: MergeRule) -> bool:
        """Whether both differences lie under the rule's thresholds."""
        return self.motion < rule.motion and self.appearance < rule.appearance


class Regions:
    """The surface in regions that follow one joint, ready to be compared and merged.

    Of each region only moments are kept: with points ``x`` (homogeneous, at bind pose) of area ``a`` and
    ``S_j = sum a x x^T`` of the region of joint j, the points displaced by a matrix ``D`` have the mean square
    ``tr(D S_j D^T) / sum a``, so that no comparison touches a vertex.

    **Motion.** Let ``M_j(t)`` carry the bind pose to time t, and let ``F(t)`` be the mean rigid motion of the larger
    region of a pair. Seen from it, joint j of the smaller one moves by ``R_j(t) = F(t)^-1 M_j(t)``, and its points are
    displaced by ``R_j(t) - mean_t R_j`` from their usual place. The root mean square over points and the frames of
    one animation, in object sizes, and of that the largest over the animations, is the pair's motion. (The paper takes
    the mean over all frames of an object that has one animation: a jaw that opens in one of ten would be lost.)

    Without animation, the pair's motion is what it would be if the joint between them turned by ``swing`` either way:
    ``2 sin(swing / 2)`` times the root mean square distance of the smaller region from that joint. Bones too short to
    show are merged, limbs are not.

    Parameters
    ----------
    rig : Rig
    owner : ndarray of int, shape (N,)
        Joint that each vertex follows.
    areas : ndarray, shape (N,)
        Area of each vertex.
    rule : MergeRule
    """

    def __init__(self, rig: Rig, owner: np.ndarray, areas: np.ndarray, rule: MergeRule) -> None:
        self.rule, self.size = rule, rig.size
        joints = len(rig.skeleton)
        self.mass = np.bincount(owner, areas, joints)
        points = np.c_[rig.vertices, np.ones(len(owner))]
        self.moments = np.zeros((joints, 4, 4))
        np.add.at(self.moments, owner, areas[:, None, None] * points[:, :, None] * points[:, None])
        self.joints = rig.skeleton.joints
        moving = [a for a in rig.animations if a.duration > 0]
        inverse = np.linalg.inv(rig.skeleton.bind)
        found = [rig.joint_transforms(a, np.linspace(0, a.duration, rule.frames)) @ inverse for a in moving]
        self.transforms = np.stack(found) if found else None                        # (A, T, J, 4, 4)
        self.members = {joint: [joint] for joint in np.flatnonzero(self.mass > 0)}
        self._frames: dict[int, np.ndarray] = {}
        self._looks(rig, owner)
        self.above = self._tree(rig.skeleton.parents)
        self.pairs = {lower: self.compare(upper, lower) for lower, upper in self.above.items()}

    def _looks(self, rig: Rig, owner: np.ndarray) -> None:
        triangles = rig.vertices[rig.faces]
        area = np.linalg.norm(np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]), axis=1)
        colors = face_colors(rig.faces, rig.appearance)                             # (F, 4, 3)
        corner = owner[rig.faces]
        face_owner = np.where(corner[:, 1] == corner[:, 2], corner[:, 1], corner[:, 0])
        self.colors, self.quantiles = {}, {}
        for joint in self.members:
            chosen = face_owner == joint
            if not chosen.any():                                    # only corners of other regions' faces
                chosen = (corner == joint).any(1)
            self.colors[joint] = colors[chosen].reshape(-1, 3), np.repeat(area[chosen], colors.shape[1])
            self.quantiles[joint] = color_quantiles(*self.colors[joint])

    def _tree(self, parents: np.ndarray) -> dict[int, int]:
        """Nearest ancestor with a region of each joint with a region; without one, the largest such joint."""
        above = {}
        for joint in self.members:
            at = parents[joint]
            while at >= 0 and at not in self.members:
                at = parents[at]
            above[joint] = int(at)
        tops = [joint for joint, upper in above.items() if upper < 0]
        self.root = max(tops, key=lambda joint: self.mass[joint])
        return {joint: upper if upper >= 0 else self.root for joint, upper in above.items() if joint != self.root}

    def compare(self, upper: int, lower: int) -> Pair:
        """How far two regions differ."""
        joint = self.joints[lower]
        large, small = (upper, lower) if self.area(upper) >= self.area(lower) else (lower, upper)
        motion = self._imagined(small, joint) if self.transforms is None else self._seen(large, small)
        return Pair(upper, lower, motion / self.size, color_distance(self.quantiles[upper], self.quantiles[lower]))

    def merge(self, lower: int) -> None:
        """Make a region part of the one above it."""
        upper = self.above.pop(lower)
        self.members[upper] += self.members.pop(lower)
        self.colors[upper] = tuple(np.concatenate(both) for both in zip(self.colors[upper], self.colors.pop(lower)))
        self.quantiles[upper] = color_quantiles(*self.colors[upper])
        self._frames.pop(upper, None)
        self._frames.pop(lower, None)
        del self.pairs[lower]
        self.above = {joint: upper if over == lower else over for joint, over in self.above.items()}
        for joint, over in self.above.items():
            if upper in (joint, over):
                self.pairs[joint] = self.compare(over, joint)

    def area(self, region: int) -> float:
        """Area of a region at bind pose."""
        return float(self.mass[self.members[region]].sum())

    def _seen(self, large: int, small: int) -> float:
        inverse = self._motion(large)[:, :, None]                                   # (A, T, 1, 4, 4)
        members = self.members[small]
        relative = (inverse @ self.transforms[:, :, members])[..., :3, :]           # (A, T, j, 3, 4)
        away = relative - relative.mean((0, 1))
        square = np.einsum("atjrc,jcd,atjrd->at", away, self.moments[members], away, optimize=True)
        return float(np.sqrt(max(square.mean(1).max(), 0) / self.area(small)))

    def _motion(self, region: int) -> np.ndarray:
        """Inverse of the mean rigid motion of a region, (A, T, 4, 4)."""
        if region not in self._frames:
            members = self.members[region]
            mass, moved = self.mass[members], self.transforms[:, :, members]
            u, _, vt = np.linalg.svd(np.einsum("j,atjrc->atrc", mass, moved[..., :3, :3]))
            u[..., 2] *= np.linalg.det(u @ vt)[..., None]
            rotation = u @ vt
            center = np.einsum("atjrc,jc->atr", moved[..., :3, :], self.moments[members][:, :, 3]) / mass.sum()
            start = self.moments[members][:, :3, 3].sum(0) / mass.sum()
            inverse = np.tile(np.eye(4), (*rotation.shape[:2], 1, 1))
            inverse[..., :3, :3] = np.swapaxes(rotation, -1, -2)
            inverse[..., :3, 3] = start - np.einsum("atcr,atc->atr", rotation, center)
            self._frames[region] = inverse
        return self._frames[region]

    def _imagined(self, small: int, joint: np.ndarray) -> float:
        moment, mass = self.moments[self.members[small]].sum(0), self.area(small)
        square = np.trace(moment[:3, :3]) / mass - 2 * joint @ moment[:3, 3] / mass + joint @ joint
        return float(2 * np.sin(np.radians(self.rule.swing) / 2) * np.sqrt(max(square, 0)))


def merge_alike(regions: Regions) -> list[Pair]:
    """Merge the pair that moves least, again and again, until no connected pair is alike.

    Distances are found anew after each step, so that a chain whose links hardly move, such as a snake, ends in pieces
    that bend little, and not in one piece that bends a lot.

    Returns
    -------
    list of Pair
        What was merged, in order, with the distances at that moment.
    """
    steps = []
    while True:
        alike = [pair for pair in regions.pairs.values() if pair.alike(regions.rule)]
        if not alike:
            return steps
        steps.append(min(alike, key=lambda pair: (pair.motion, pair.appearance, pair.lower)))
        regions.merge(steps[-1].lower)
