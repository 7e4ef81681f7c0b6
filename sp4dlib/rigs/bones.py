"""Joints by name while a procedural rig is being put together, and poses of them over time."""

from __future__ import annotations

import numpy as np

from sp4dlib.rigs.rig import Animation, Skeleton, Track


class Bones:
    """A skeleton in the making: joints are added by name, parents first. Bind matrices only translate."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._parents: list[int] = []
        self._heads: list[np.ndarray] = []

    def joint(self, name: str, parent: str | None, at) -> int:
        """Add a joint at a place (3,); returns its index."""
        self._names.append(name)
        self._parents.append(-1 if parent is None else self._names.index(parent))
        self._heads.append(np.asarray(at, float))
        return len(self._names) - 1

    def index(self, name: str) -> int:
        """Index of a joint."""
        return self._names.index(name)

    def at(self, name: str) -> np.ndarray:
        """Where a joint is."""
        return self._heads[self._names.index(name)]

    @property
    def heads(self) -> np.ndarray:
        """Places of all joints, shape (J, 3)."""
        return np.array(self._heads)

    def skeleton(self) -> Skeleton:
        """The skeleton so far."""
        bind = np.repeat(np.eye(4)[None], len(self._heads), axis=0)
        bind[:, :3, 3] = self.heads
        return Skeleton(np.array(self._parents), tuple(self._names), bind)


def animate(name: str, skeleton: Skeleton, phase: np.ndarray, duration: float, turns: dict, moves: dict | None = None
            ) -> Animation:
    """An animation of a skeleton whose bind matrices only translate.

    Parameters
    ----------
    name : str
    skeleton : Skeleton
    phase : ndarray, shape (S,)
        Keys, as shares of the duration from 0 to 1.
    duration : float
        Seconds.
    turns : dict of str to (S, 4) quaternions x y z w, or to three angles about x, then y, then z
        Rotation of each joint from bind pose, in radians; an angle is a number or (S,).
    moves : dict of str to (S, 3), optional
        Offset of each joint from bind pose, in its parent's axes.

    Returns
    -------
    Animation
    """
    times, joints = phase * duration, len(skeleton)
    offset = skeleton.joints - np.where(skeleton.parents[:, None] >= 0, skeleton.joints[skeleton.parents], 0)
    tracks = []
    for joint, move in (moves or {}).items():
        j = skeleton.names.index(joint)
        tracks.append(Track(j, "translation", times, offset[j] + move))
    for joint, turn in turns.items():
        values = turn if isinstance(turn, np.ndarray) and turn.ndim == 2 and turn.shape[1] == 4 \
            else quaternions(turn, len(times))
        tracks.append(Track(skeleton.names.index(joint), "rotation", times, values))
    return Animation(name, duration, offset, np.tile([0.0, 0, 0, 1], (joints, 1)), np.ones((joints, 3)), tuple(tracks))


def quaternions(angles, count: int) -> np.ndarray:
    """Quaternions x y z w (S, 4) of turns about x, then y, then z, in radians; scalars are repeated."""
    from scipy.spatial.transform import Rotation

    stacked = np.stack([np.broadcast_to(a, count) for a in angles], 1)
    return Rotation.from_euler("xyz", stacked).as_quat()


def turn_about(axis, angle: np.ndarray) -> np.ndarray:
    """Quaternions x y z w (S, 4) of turns by ``angle`` (S,) radians about one ``axis`` (3,)."""
    axis = np.asarray(axis, float) / np.linalg.norm(axis)
    half = np.asarray(angle, float)[:, None] / 2
    return np.concatenate([np.sin(half) * axis, np.cos(half)], 1)


def worlds(skeleton: Skeleton, phase: np.ndarray, turns: dict, moves: dict | None = None) -> np.ndarray:
    """Joint-to-world matrices (S, J, 4, 4) of what :func:`animate` would play."""
    return skeleton.chain(animate("", skeleton, phase, 1.0, turns, moves).local(phase))


def two_bone(hip: np.ndarray, knee: np.ndarray, ankle: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Angles that two bones in a plane turn by, so that the ankle meets the target: the law of cosines.

    Parameters
    ----------
    hip, knee, ankle : ndarray, shape (2,)
        At bind pose. The knee keeps bending to the side to which it bends here.
    target : ndarray, shape (S, 2)
        Out of reach, the leg is stretched towards it.

    Returns
    -------
    (ndarray, ndarray), shapes (S,)
        Turn of the first and of the second bone from bind pose, both against the plane, counter-clockwise, in radians.
    """
    first, second = np.linalg.norm(knee - hip), np.linalg.norm(ankle - knee)
    reach = target - hip
    distance = np.clip(np.linalg.norm(reach, axis=1), abs(first - second) + 1e-6, 0.999 * (first + second))
    bend = np.arccos(np.clip((first**2 + distance**2 - second**2) / (2 * first * distance), -1, 1))
    (ax, ay), (bx, by) = ankle - hip, knee - hip
    side = np.sign(ax * by - ay * bx)
    upper = np.arctan2(reach[:, 1], reach[:, 0]) + side * bend
    new_knee = hip + first * np.stack([np.cos(upper), np.sin(upper)], 1)
    end = hip + reach * (distance / np.linalg.norm(reach, axis=1))[:, None]
    lower = np.arctan2((end - new_knee)[:, 1], (end - new_knee)[:, 0])
    return upper - np.arctan2(*(knee - hip)[::-1]), lower - np.arctan2(*(ankle - knee)[::-1])


def wrap(angle: np.ndarray) -> np.ndarray:
    """The equal angle in (-pi, pi]."""
    return np.angle(np.exp(1j * angle))


def reach(skeleton: Skeleton, chain: tuple[str, str, str], tip: np.ndarray, targets: np.ndarray,
          parent: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Turns of a leg or an arm that swings about the vertical and bends in its own upright plane.

    Parameters
    ----------
    skeleton : Skeleton
        Bind matrices only translate.
    chain : (str, str, str)
        The joint that swings about y, and the two that bend.
    tip : ndarray, shape (3,)
        What meets the target, at bind pose; in one upright plane with the joints.
    targets : ndarray, shape (S, 3)
        In the world.
    parent : ndarray, shape (S, 4, 4)
        Joint-to-world matrices of the parent of ``chain[0]``; its own turn is undone.

    Returns
    -------
    turns : dict of str to ndarray, shape (S, 4)
        Quaternions for :func:`animate`.
    pitch : ndarray, shape (S,)
        How far the last bone has turned within the plane, to be undone by a wrist that keeps its slope.
    """
    swing, upper, lower = (skeleton.joints[skeleton.names.index(name)] for name in chain)
    above = skeleton.parents[skeleton.names.index(chain[0])]
    base = skeleton.joints[above] if above >= 0 else np.zeros(3)
    local = np.einsum("sab,sb->sa", np.linalg.inv(parent), np.concatenate([targets, np.ones((len(targets), 1))], 1))
    local = local[:, :3] + base - swing                       # bind axes, from the swinging joint
    out = tip - swing
    heading = np.arctan2(out[0], out[2])
    yaw = wrap(np.arctan2(local[:, 0], local[:, 2]) - heading)
    outward = np.array([np.sin(heading), 0, np.cos(heading)])

    def flat(point: np.ndarray) -> np.ndarray:                # into the plane: outwards, upwards
        return np.array([(point - swing) @ outward, point[1] - swing[1]])

    target = np.stack([np.hypot(local[:, 0], local[:, 2]), local[:, 1]], 1)
    first, second = two_bone(flat(upper), flat(lower), flat(tip), target)
    axis = np.cross(outward, [0, 1, 0])
    turns = {chain[0]: turn_about([0, 1, 0], yaw), chain[1]: turn_about(axis, wrap(first)),
             chain[2]: turn_about(axis, wrap(second - first))}
    return turns, second
