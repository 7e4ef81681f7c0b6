"""The sections of :mod:`benchmarks.rigging`: what is done with one rig, and what comes out."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from benchmarks import rigging_anchors, rigging_robust, rigging_speed
from benchmarks.rigging_anchors import Programs, Run
from benchmarks.rigging_subjects import FIVE, Subject, bare_rig, load, mesh
from sp4dlib import lifting
from sp4dlib.clips import Parts, make_clip
from sp4dlib.clips.parts import vertex_areas
from sp4dlib.evaluation import rigging as scores

VIEWS = (12, 4)
ELEVATIONS = (0.0, 30.0, -20.0)
SIZE = 512
LEAST = 0.01            # share of the area below which a part is not scored


def labels(name: str, run: Run) -> dict:
    """Weights from perfect labels; Blender and libigl have the perfect bones."""
    subject = load(name, run.references)
    methods = {method: part_scores(subject, weights) for method, weights in
               from_labels(subject, subject.labels).items()}
    return compared(about(subject) | {"methods": methods | outside(subject, run.programs)})


def from_labels(subject: Subject, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Weights of the parts (N, K) by the library, the literal formula, and the plain band."""
    surface, count = mesh(subject), len(subject.joints)
    return {"ours": lifting.harmonic_weights(surface, labels, parts=count),
            "rigid": lifting.literal_harmonic_weights(surface, labels, parts=count),
            "band": rigging_anchors.plain_band(subject.vertices, subject.faces, labels, count)}


def outside(subject: Subject, programs: Programs) -> dict[str, dict]:
    """Scores of the anchors that run in other interpreters, as far as there are any."""
    out = {}
    for method in ("blender", "bbw"):
        if getattr(programs, method):
            weights, note = rigging_anchors.outside_weights(subject, method, programs)
            out[method] = note if weights is None else joint_scores(subject, weights) | note
    return out


def part_scores(subject: Subject, weights: np.ndarray) -> dict:
    """Scores of weights of the parts; on the five rigs also of each joint by itself, ``by_joint``."""
    out = scores.skinning_scores(subject.vertices, weights, subject.reference, subject.joints, subject.parents)
    return out | _by_joint(subject, subject.by_joint(weights))


def joint_scores(subject: Subject, weights: np.ndarray) -> dict:
    """Scores of weights of the joints, summed over parts; on the five also of each joint by itself."""
    out = scores.skinning_scores(subject.vertices, subject.by_part(weights), subject.reference, subject.joints,
                                 subject.parents)
    return out | _by_joint(subject, weights)


def _by_joint(subject: Subject, weights: np.ndarray) -> dict:
    if subject.name not in FIVE:
        return {}
    made = scores.skinning_scores(subject.vertices, weights, subject.joint_reference, subject.skeleton.joints,
                                  subject.skeleton.parents)
    return {"by_joint": {key: made[key] for key in ("l1", "deformation")}}


def about(subject: Subject) -> dict:
    """Sizes of a subject."""
    return {"vertices": len(subject.vertices), "parts": len(subject.joints),
            "joints": int((subject.joint_part >= 0).sum())}


def lifted(name: str, run: Run) -> dict:
    """Labels from true part maps of 12 and of 4 views, and on the five rigs weights from these."""
    subject = load(name, run.references)
    out = about(subject) | {"views": {}, "methods": {}}
    for views in VIEWS:
        found, seen = lifted_labels(subject, views)
        out["views"][str(views)] = label_scores(subject, found, seen)
        if name in FIVE:
            for method, weights in from_labels(subject, np.minimum(found, len(subject.joints) - 1)).items():
                out["methods"][f"{method}_{views}"] = part_scores(subject, weights)
    return out


@lru_cache(maxsize=4)
def lifted_labels(subject: Subject, views: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,) lifted from one frame of part maps of ``views`` cameras, and which vertices some pixel voted on.

    Cameras stand at equal steps of azimuth, at elevations of 0, 30 and -20 degrees by turns.
    """
    azimuths, elevations = np.arange(views) * 360 / views, np.resize(ELEVATIONS, views)
    parts = Parts(subject.labels, np.zeros(1, int), subject.parents, subject.names)
    clip = make_clip(bare_rig(subject), None, [0], azimuths, elevations, SIZE, parts=parts)
    found, votes = lifting.vertex_labels(mesh(subject), clip.parts, clip.cameras, return_votes=True)
    return found, votes.any(1)


def label_scores(subject: Subject, found: np.ndarray, seen: np.ndarray) -> dict:
    """How well labels agree with the true ones, by vertices; ids are known, so nothing is matched.

    ``miou``: mean IoU over parts of at least 1 % of the area, all vertices; ``miou_seen``: the vertices that some pixel
    voted on only. ``accuracy_seen``, ``accuracy_unseen``: shares of right labels; ``unseen``: share of vertices.
    """
    area = vertex_areas(subject.vertices[None], subject.faces)[0]
    large = np.flatnonzero(np.bincount(subject.labels, area, len(subject.joints)) >= LEAST * area.sum())
    right = found == subject.labels

    def miou(among: np.ndarray) -> float:
        pairs = [((found == part) & among, (subject.labels == part) & among) for part in large]
        return float(np.mean([(a & b).sum() / (a | b).sum() for a, b in pairs if b.any()]))

    out = {"miou": miou(np.ones(len(found), bool)), "miou_seen": miou(seen), "accuracy_seen": right[seen].mean(),
           "unseen": 1 - seen.mean(), "parts_scored": len(large)}
    return out | ({"accuracy_unseen": right[~seen].mean()} if not seen.all() else {})


def bones(name: str, run: Run) -> dict:
    """Weights from the true bones alone, by the library and by others."""
    subject = load(name, run.references)
    methods = {"ours": joint_scores(subject, lifting.bone_weights(mesh(subject), subject.skeleton))}
    methods |= outside(subject, run.programs)
    return compared(about(subject) | {"methods": methods})


def compared(entry: dict) -> dict:
    """An entry with the library's scores over Blender's, where Blender has scores."""
    ours, blender = entry["methods"]["ours"], entry["methods"].get("blender", {})
    if "l1" not in blender:
        return entry
    return entry | {"of_blender": {key: ours[key] / max(blender[key], 1e-9) for key in ("l1", "deformation")}}


def skeleton(name: str, run: Run) -> dict:
    """Joints and tree from perfect labels and from lifted ones, against the reference tree of the parts.

    ``j2j``, ``j2b``, ``b2b`` and edges as in :mod:`sp4dlib.evaluation.rigging`, end joints left out. ``all_joints`` has
    the distances to the tree of all joints that carry weight, not only those that are parts.
    """
    subject = load(name, run.references)
    cases = {"perfect": subject.labels} | {f"views_{views}": lifted_labels(subject, views)[0] for views in VIEWS}
    return about(subject) | {case: tree_of(subject, found) for case, found in cases.items()}


def tree_of(subject: Subject, labels: np.ndarray) -> dict:
    """Scores of the skeleton that the library makes of labels."""
    made, part = lifting.extract_skeleton(mesh(subject), labels, return_parts=True)
    real = part >= 0
    number = np.cumsum(real) - 1
    joints, parents = made.joints[real], made.parents[real]
    parents = np.where(parents >= 0, number[parents], -1)
    out = scores.skeleton_scores(joints, parents, subject.joints, subject.parents, subject.size)
    child, true = np.flatnonzero(parents >= 0), np.flatnonzero(subject.parents >= 0)
    ids = part[real]
    out |= scores.tree_scores(zip(ids[child], ids[parents[child]]), zip(true, subject.parents[true]))
    deforming = subject.joint_part >= 0
    all_joints, tree = subject.skeleton.joints[deforming], subject.skeleton.parents[deforming]
    every = scores.skeleton_scores(joints, parents, all_joints, tree, subject.size)
    return out | {"joints": len(joints), "all_joints": every}


SECTIONS = {"labels": labels, "lifted": lifted, "bones": bones, "skeleton": skeleton, "speed": rigging_speed.speed,
            "twins": rigging_robust.twins}
OWN_NAMES = {"speed": rigging_speed.SIZES, "twins": rigging_robust.NAMES}


def settings(section: str, run: Run) -> dict:
    """What a section was run with, beyond the defaults of the library at the entry's commit."""
    out = {"pose_seed": scores.SEED, "poses": scores.POSES, "degrees": [0, scores.DEGREES],
           "influence_threshold": scores.THRESHOLD} | rigging_anchors.settings(run.programs)
    if section in ("lifted", "skeleton"):
        out |= {"size": SIZE, "views": VIEWS, "frames": 1, "elevations": ELEVATIONS, "least_area": LEAST,
                "bone_step": scores.STEP}
    return out
