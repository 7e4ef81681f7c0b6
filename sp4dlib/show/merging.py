"""How joints became kinematic parts, step by step, as pictures with captions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sp4dlib.clips import MergeRule, kinematic_parts, make_clip, merge_steps
from sp4dlib.clips.merging import RULE
from sp4dlib.rigs import Rig
from sp4dlib.show.style import id_image


def merge_pages(rig: Rig, rule: MergeRule = RULE, *, azimuth: float = 40, elevation: float = 18, size: int = 300
                ) -> tuple[list[np.ndarray], list[str]]:
    """Pages for :func:`~sp4dlib.show.flipbook`: regions of one joint each, and after each step of the merging.

    Parameters
    ----------
    rig : Rig
        Shown in bind pose.
    rule : MergeRule
        Thresholds, as for :func:`sp4dlib.clips.kinematic_parts`.
    azimuth, elevation : float
        Of the camera, in degrees.
    size : int
        Pixels of an image side.

    Returns
    -------
    pages : list of ndarray of uint8, shape (size, size, 3)
        A region keeps its colour until it joins another.
    labels : list of str
        How many regions there are, what joined what, and why.
    """
    bones = kinematic_parts(rig, replace(rule, motion=0, min_share=0, max_parts=len(rig.skeleton)))
    ids = make_clip(rig, None, [0.0], [azimuth], elevation, size, parts=bones).parts[0, 0]
    into = np.arange(len(bones))
    pages, labels = [id_image(ids)], [f"{len(bones)} regions, one a joint"]
    for step in merge_steps(rig, rule):
        joined = bones.joint_part[step.joint]
        target = bones.joint_part[step.into] if step.into >= 0 else 0
        if joined == target:                                    # a joint that owns nothing
            continue
        into[into == joined] = target
        pages.append(id_image(np.where(ids < 0, -1, into[np.maximum(ids, 0)])))
        why = (f"they move {100 * step.motion:.2f} % apart" if step.reason == "alike"
               else f"it is {100 * step.share:.1f} % of the surface")
        labels.append(f"{len(np.unique(into))} regions: {bones.names[joined]} joins {bones.names[target]}, {why}")
    return pages, labels
