"""What :mod:`benchmarks.rigging` compares with: the plain band, and others' programs in processes of their own.

* ``rigid``: SP4D's equation to the letter, :func:`sp4dlib.lifting.literal_harmonic_weights`.
* ``band``: the simplest mend of it, restated here so that it stays as it is while the library's own method moves on.
* ``blender``: bone heat of Blender (``bpy`` under ``--bpy-python``), which is given the true bones.
* ``bbw``: bounded biharmonic weights of libigl in a tetrahedral mesh (``--igl-python``), given the true bones.

Blender and libigl run in a child (:mod:`benchmarks.rigging_anchor_child`), which may crash without harm. Its weights
are deterministic and are kept in ``_build/rigging``, so that sections run one after another pay for them once; times
are never taken from there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import robust_laplacian
from scipy.sparse import coo_matrix, csc_matrix, diags
from scipy.sparse.csgraph import connected_components, dijkstra

from benchmarks import record
from benchmarks.rigging_subjects import Subject, segments
from sp4dlib.lifting.linear import solve

KAPPA = 0.2             # half-width of the plain band over the mean radius of the nearest border
CHILD = Path(__file__).with_name("rigging_anchor_child.py")
KEPT = record.ROOT / "_build" / "rigging"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Programs:
    """Interpreters that have ``bpy`` and ``igl``; None leaves an anchor out."""

    blender: str | None = None
    bbw: str | None = None
    limit: float = 900.0


@dataclass(frozen=True)
class Run:
    """What a run is given besides rigs: where the packages' rigs are, and the programs."""

    references: str | None
    programs: Programs


def plain_band(vertices: np.ndarray, faces: np.ndarray, labels: np.ndarray, parts: int,
               kappa: float = KAPPA) -> np.ndarray:
    """Weights (N, K) harmonic within ``kappa`` radii of the borders, by distance along edges; no further care.

    A border's radius is the mean distance of its vertices to their mean. Vertices farther from the nearest border
    vertex than ``kappa`` of its radius are fixed, and one at least of each part and each shell.
    """
    count = len(vertices)
    edges = np.unique(np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1), axis=0)
    length = np.maximum(np.linalg.norm(vertices[edges[:, 0]] - vertices[edges[:, 1]], axis=1), 1e-9)
    graph = coo_matrix((length, edges.T), shape=(count, count)).tocsr()
    graph = graph + graph.T
    cut = edges[labels[edges[:, 0]] != labels[edges[:, 1]]]
    radius = _border_radii(vertices, labels, cut, graph)
    distance, nearest = np.full(count, np.inf), np.zeros(count, int)
    if len(cut):
        distance, _, nearest = dijkstra(graph, directed=False, indices=np.unique(cut), min_only=True,
                                        return_predecessors=True)
    fixed = ~np.isfinite(distance) | (distance > kappa * radius[np.maximum(nearest, 0)])
    for part in np.setdiff1d(labels, labels[fixed]):
        members = np.flatnonzero(labels == part)
        fixed[members[distance[members].argmax()]] = True
    shell = connected_components(graph, directed=False)[1]
    _, first = np.unique(shell, return_index=True)
    fixed[first[~np.isin(shell[first], shell[fixed])]] = True
    weights = np.eye(parts)[labels]
    free, held = np.flatnonzero(~fixed), np.flatnonzero(fixed)
    if len(free):
        rows = csc_matrix(robust_laplacian.mesh_laplacian(vertices, faces)[0]).tocsr()[free]
        inner = rows[:, free] + diags(np.full(len(free), 1e-12 * rows.diagonal(k=0).mean() + 1e-15))
        weights[free] = np.clip(solve(inner, -(rows[:, held] @ weights[held])), 0, 1)
    return weights


def _border_radii(vertices: np.ndarray, labels: np.ndarray, cut: np.ndarray, graph) -> np.ndarray:
    """Radius of the border that each vertex on one belongs to, (N,); 0 elsewhere. A border is a connected set of the
    ends of cut edges between two parts."""
    radius = np.zeros(len(vertices))
    pairs = np.sort(labels[cut], axis=1)
    for pair in np.unique(pairs, axis=0):
        members = np.unique(cut[(pairs == pair).all(1)])
        piece = connected_components(graph[members][:, members], directed=False)[1]
        for number in range(piece.max() + 1):
            border = members[piece == number]
            mean = np.linalg.norm(vertices[border] - vertices[border].mean(0), axis=1).mean()
            radius[border] = np.maximum(radius[border], mean)
    return radius


def outside_weights(subject: Subject, method: str, programs: Programs) -> tuple[np.ndarray | None, dict]:
    """Weights of ``blender`` or ``bbw`` on the true bones.

    Returns
    -------
    weights : ndarray, shape (N, J), or None
        Of the joints of ``subject.skeleton``; None where the program failed.
    about : dict
        ``error`` where it failed, ``version`` otherwise.
    """
    joints, starts, stops = segments(subject)
    by_segment, about = kept_weights(subject.name, method, {"vertices": subject.vertices, "faces": subject.faces,
                                                            "starts": starts, "stops": stops}, programs)
    if by_segment is None:
        return None, about
    weights = np.zeros((len(by_segment), len(subject.skeleton)))
    np.add.at(weights.T, joints, by_segment.T)
    return weights, about


def kept_weights(name: str, method: str, data: dict, programs: Programs) -> tuple[np.ndarray | None, dict]:
    """Weights by segment (N, S) of an anchor, and its version or error; from ``_build/rigging`` if it ran before."""
    digest = hashlib.sha256(CHILD.read_bytes() + method.encode())
    for array in data.values():
        digest.update(np.ascontiguousarray(array).tobytes())
    kept = KEPT / f"{name.replace('/', '_')}-{method}-{digest.hexdigest()[:16]}.npz"
    if not kept.is_file():
        by_segment, about = run_child(method, data, programs)
        KEPT.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=KEPT, suffix=".npz", delete=False) as file:
            np.savez_compressed(file, weights=np.zeros(0) if by_segment is None else by_segment,
                                about=json.dumps(about))
        os.replace(file.name, kept)
    with np.load(kept) as stored:
        by_segment, about = stored["weights"], json.loads(str(stored["about"]))
    about = {key: about[key] for key in ("error", "version") if key in about}
    return (by_segment if by_segment.size else None), about


def run_child(method: str, data: dict, programs: Programs) -> tuple[np.ndarray | None, dict]:
    """Run an anchor in its own process; returns weights by segment (N, S) or None, and seconds, MB, version or error.

    A crash, an exception and a run beyond the limit are errors of the anchor, told in words.
    """
    interpreter = getattr(programs, method)
    if interpreter is None:
        return None, {"error": "not run: no interpreter given"}
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "given.npz"), Path(folder, "made.npz")
        np.savez(given, **data)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        try:
            done = subprocess.run([interpreter, str(CHILD), method, str(given), str(made)], capture_output=True,
                                  text=True, timeout=programs.limit, env=environment, errors="replace", cwd=folder)
        except subprocess.TimeoutExpired:
            return None, {"error": f"over {programs.limit:g} s"}
        except OSError as error:
            return None, {"error": str(error)}
        if not made.is_file():
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            cause = f"killed by signal {-done.returncode}" if done.returncode < 0 else (lines or ["no weights"])[-1]
            return None, {"error": cause[:200]}
        with np.load(made) as stored:
            return stored["weights"], json.loads(str(stored["about"]))


def settings(programs: Programs) -> dict:
    """What the anchors were run with."""
    return {"kappa": KAPPA} | {name: value for name, value in dataclasses.asdict(programs).items() if name == "limit"}
