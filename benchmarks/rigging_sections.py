"""The sections of :mod:`benchmarks.rigging`: what is done with one rig, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks import rigging_anchors
from benchmarks.rigging_anchors import Programs
from benchmarks.rigging_subjects import FIVE, Subject, load, mesh
from sp4dlib import lifting
from sp4dlib.evaluation import rigging as scores


@dataclass(frozen=True)
class Run:
    """What a run is given besides rigs."""

    references: str | None
    programs: Programs


def labels(name: str, run: Run) -> dict:
    """Weights from perfect labels; Blender and libigl have the perfect bones."""
    subject = load(name, run.references)
    methods = {method: part_scores(subject, weights) for method, weights in
               from_labels(subject, subject.labels).items()}
    return about(subject) | {"methods": methods | outside(subject, run.programs)}


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


SECTIONS = {"labels": labels}


def settings(section: str, run: Run) -> dict:
    """What a section was run with, beyond the defaults of the library at the entry's commit."""
    out = {"pose_seed": scores.SEED, "poses": scores.POSES, "degrees": [0, scores.DEGREES],
           "influence_threshold": scores.THRESHOLD}
    return out | rigging_anchors.settings(run.programs)
