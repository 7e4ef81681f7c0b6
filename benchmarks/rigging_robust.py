"""Broken meshes: the section ``twins``.

For each of :data:`benchmarks.rigging_twins.TWINS`, not welded beforehand: weights from labels (``ours``, ``band``,
``rigid``), from bones (``ours_bones``, ``blender``), with L1 as a share of that method's on the clean twin, and
whether :func:`sp4dlib.lifting.auto_rig` makes a valid rig of it. For the degenerate inputs: what each function of the
library says, how long it takes and the memory of the process meanwhile.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path

import numpy as np

from benchmarks import rigging_anchors
from benchmarks.rigging_anchor_child import Clock, peak_megabytes
from benchmarks.rigging_anchors import Run
from benchmarks.rigging_creature import bones, creature, creature_weights
from benchmarks.rigging_creature import skeleton as creature_skeleton
from benchmarks.rigging_twins import TWINS, Twin, twin
from sp4dlib import lifting
from sp4dlib.evaluation import rigging as scores
from sp4dlib.rigs import Mesh, Skeleton

DEGENERATE = ("three_vertices", "no_faces", "nan_positions", "no_area", "million_faces")
NAMES = TWINS + DEGENERATE
MILLION = 1_000_000

log = logging.getLogger(__name__)


def twins(name: str, run: Run) -> dict:
    """Everything about one twin or one degenerate input."""
    if name in DEGENERATE:
        return degenerate(name)
    chosen = twin(name)
    methods = weights_of(name, run)
    methods["auto_rig"] = outcome(lambda: lifting.auto_rig(chosen.mesh, labels=chosen.weights.argmax(1)))
    clean = weights_of("clean", run)
    for method, made in methods.items():
        if isinstance(made, dict) and "l1" in made and "l1" in clean.get(method, {}):
            made["of_clean"] = made["l1"] / clean[method]["l1"]
    about = {"vertices": len(chosen.vertices), "faces": len(chosen.faces)}
    return about | {"auto_rig": methods.pop("auto_rig"), "methods": methods}


@lru_cache
def _weights_of(name: str, run: Run) -> dict[str, dict]:
    chosen = twin(name)
    labels, count = chosen.weights.argmax(1), len(bones())
    made = {"ours": lambda: lifting.harmonic_weights(chosen.mesh, labels, parts=count),
            "rigid": lambda: lifting.literal_harmonic_weights(chosen.mesh, labels, parts=count),
            "band": lambda: rigging_anchors.plain_band(chosen.vertices, chosen.faces, labels, count),
            "ours_bones": lambda: lifting.bone_weights(chosen.mesh, with_tips())}
    out = {}
    for method, make in made.items():
        try:
            out[method] = twin_scores(chosen, make()[:, :count])
        except Exception as error:              # an exception is a result here
            out[method] = {"error": f"{type(error).__name__}: {error}"[:200]}
    if run.programs.blender:
        data = {"vertices": chosen.vertices, "faces": chosen.faces, "starts": np.array([b.head for b in bones()]),
                "stops": np.array([b.tail for b in bones()])}
        weights, note = rigging_anchors.kept_weights(f"twin_{name}", "blender", data, run.programs)
        out["blender"] = note if weights is None else twin_scores(chosen, weights) | note
    return out


def weights_of(name: str, run: Run) -> dict[str, dict]:
    """Scores of each method on a twin, worked out once."""
    return {method: dict(made) for method, made in _weights_of(name, run).items()}


def twin_scores(chosen: Twin, weights: np.ndarray) -> dict:
    """Scores against the twin's own reference, and whether a weight is not finite."""
    tree = creature_skeleton()
    out = scores.skinning_scores(chosen.vertices, weights, chosen.weights, tree.joints, tree.parents)
    return out | {"not_finite": int((~np.isfinite(weights)).any(1).sum())}


def with_tips() -> Skeleton:
    """The creature's skeleton with an end joint at the tail of each leaf bone."""
    tree = creature_skeleton()
    leaves = np.setdiff1d(np.arange(len(tree)), tree.parents)
    bind = np.tile(np.eye(4), (len(leaves), 1, 1))
    bind[:, :3, 3] = [bones()[leaf].tail for leaf in leaves]
    return Skeleton(np.concatenate([tree.parents, leaves]), tree.names + tuple(f"{tree.names[i]}_end" for i in leaves),
                    np.concatenate([tree.bind, bind]))


def degenerate(name: str) -> dict[str, dict]:
    """What each function says to an input that is hardly a mesh (``outcome``), and at what ``cost``."""
    mesh, labels = degenerate_mesh(name)
    tasks = {"auto_rig": lambda: lifting.auto_rig(mesh, labels=labels),
             "harmonic_weights": lambda: lifting.harmonic_weights(mesh, labels),
             "extract_skeleton": lambda: lifting.extract_skeleton(mesh, labels),
             "bone_weights": lambda: lifting.bone_weights(mesh, with_tips())}
    said, cost = {}, {}
    for task, make in tasks.items():
        Path("/proc/self/clear_refs").write_text("5")           # the peak of what follows, not of what was
        with Clock() as clock:
            said[task] = outcome(make)
        cost[task] = {"seconds": clock.wall, "cpu_seconds": clock.cpu, "peak_mb": round(peak_megabytes())}
    return {"outcome": said, "cost": cost}


def degenerate_mesh(name: str) -> tuple[Mesh, np.ndarray]:
    """A mesh and labels: one triangle, none, NaN among the positions, all on a line, or a million faces."""
    points, faces = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), np.array([[0, 1, 2]])
    if name == "million_faces":
        mesh = _million()
        return mesh, creature_weights(mesh.vertices).argmax(1)
    if name == "no_faces":
        faces = np.zeros((0, 3), int)
    elif name == "nan_positions":
        points[1, 1] = np.nan
    elif name == "no_area":
        points[2] = [2, 0, 0]
    return Mesh(points, faces), np.array([0, 1, 1])


def _million() -> Mesh:
    """The creature at a sixty-fourth of a million faces, each then split into four three times."""
    import trimesh

    rig = creature(MILLION // 128 + 100)
    points, faces = rig.vertices, rig.faces
    for _ in range(3):
        points, faces = trimesh.remesh.subdivide(points, faces)
    return Mesh(np.asarray(points), np.asarray(faces))


def outcome(make) -> str:
    """``valid``, or the error in words; anything but a ValueError is unexpected and says so."""
    try:
        made = make()
    except ValueError as error:
        return f"ValueError: {error}"
    except Exception as error:
        return f"unexpected {type(error).__name__}: {error}"
    arrays = [made.weights, made.skeleton.bind] if hasattr(made, "weights") else [getattr(made, "bind", made)]
    return "valid" if all(np.isfinite(array).all() for array in arrays) else "unexpected: not finite"
