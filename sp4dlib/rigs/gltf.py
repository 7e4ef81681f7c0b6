"""glTF 2.0 files to rigs; the way back is :mod:`~sp4dlib.rigs.gltf_writer`.

What a file holds and what a rig is differ in one point, the bind pose. In the file, vertices lie in the space of a
skin, and only the skin's inverse bind matrices (IBM) bring them to the joints. Exporters leave any scale and any
orientation there. Here one matrix per skin, ``C = world(root joint) IBM(root joint)`` at the default node pose, brings
vertices and joints upright and to scene units: ``vertices = C raw``, ``bind_j = C inv(IBM_j)``. Posed positions do not
depend on C: ``world_j(t) inv(bind_j) C raw = world_j(t) IBM_j raw``, which is glTF's own formula.

A part without a skin has no bind pose. It is rigid, and its joint is a node: the one that bears it, or the nearest one
above that is animated, is a joint, or stands elsewhere than its parent. Robots and vehicles are often made of such
parts alone. Their default pose serves as bind pose.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from sp4dlib.rigs.gltf_file import GltfFile, damaged, unique
from sp4dlib.rigs.gltf_meshes import MeshReader, Surface, read_materials
from sp4dlib.rigs.gltf_nodes import Graph, Joints, bind_pose, find_joints
from sp4dlib.rigs.gltf_writer import save
from sp4dlib.rigs.rig import PATHS, Animation, Appearance, Rig, RigError, Skeleton, Track

__all__ = ["load", "save"]



def load(path: str | Path, max_texture: int | None = None) -> Rig:
    """Read a rigged mesh from a .glb or .gltf file.

    All mesh parts of the default scene become one mesh, in the order of their nodes; all skins and rigid parts one
    skeleton. A part without a skin follows one joint with weight 1: its own node, if that is animated or stands away
    from the node above it, else the node above. Animated nodes that carry joints or parts are joints too, mostly
    without weight. What is left out or mended (morph targets, lines, textures in unknown formats, weights that are no
    numbers) is logged and listed in ``Rig.notes``; lights, cameras and surface properties other than base colour are
    left out silently.

    Parameters
    ----------
    path : str or Path
        A .gltf may name files in its own folder or below, and no others.
    max_texture : int or None
        Textures of more texels than this along a side are reduced to it. None keeps them.

    Returns
    -------
    Rig
        With the bind pose upright and in scene units. Several root joints hang on a weightless joint 0, ``root``.
        A default node pose that is not the bind pose is the last animation, ``rest``, of duration 0.

    Raises
    ------
    RigError
        If the file cannot be read, is damaged, holds no mesh, holds neither a skin nor an animation that moves a part
        (a static file, whatever its nodes: nothing in it says what moves), needs an extension such as meshopt
        compression, or is too large: files above 1 GiB, above 512 MiB of decoded numbers, 1 GiB of weights or 2^28
        texels, and less for a file of few bytes. The message names the file and says how to mend it.
    """
    path = Path(path)
    try:
        with np.errstate(all="ignore"):     # numbers in damaged files overflow; what matters is checked
            return _rig(GltfFile(path, max_texture))
    except RigError:
        raise
    except MemoryError as error:
        raise RigError(f"{path} needs more memory than there is; reduce the mesh or its textures and export it again"
                       ) from error
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise damaged(path, f"{type(error).__name__}: {error}") from error


def _rig(file: GltfFile) -> Rig:
    graph = Graph(file)
    meshes = [int(i) for i in np.flatnonzero(graph.in_scene) if "mesh" in graph.nodes[i]]
    if not meshes:
        raise RigError(f"{file.path} holds no mesh; export the mesh together with its armature")
    skins = sorted({graph.nodes[i]["skin"] for i in meshes if "skin" in graph.nodes[i]})
    members = {s: file.item("skins", s)["joints"] for s in skins}
    for node in (n for nodes in members.values() for n in nodes):
        file.item("nodes", node)
    listed = list(dict.fromkeys(n for nodes in members.values() for n in nodes))
    joints = find_joints(file, graph, listed, [i for i in meshes if "skin" not in graph.nodes[i]])
    if not skins and not _moves(file, joints):
        raise RigError(f"{file.path} holds a mesh, but no skin, and no animation that moves a part of it, so nothing "
                       "says how it moves; export it with its armature, or read it as a plain mesh and rig it "
                       "(sp4dlib.lifting)")
    inverse = {s: _inverse_bind(file, s, len(members[s])) for s in skins}
    bind, brought = bind_pose(file, graph, joints, members, inverse)
    reader = MeshReader(file)
    found = [(i, surface) for i in meshes for surface in reader.surfaces(graph.nodes[i]["mesh"])]
    if not found:
        raise RigError(f"{file.path} holds meshes without triangles; export the surface as triangles")
    starts = np.cumsum([0] + [len(surface.vertices) for _, surface in found])
    file.spend(8 * int(starts[-1]) * len(joints), f"{starts[-1]} vertices times {len(joints)} joints", "weights")
    weights = np.zeros((starts[-1], len(joints)))
    places = {s: np.array([joints.index[n] for n in members[s]]) for s in skins}
    to_bind = {s: bind[places[s]] @ inverse[s] for s in skins}      # C by every joint: all equal, if the skins agree
    surfaces = []
    for (node, surface), start in zip(found, starts):
        rows = weights[start:start + len(surface.vertices)]
        if "skin" in graph.nodes[node]:
            skin = graph.nodes[node]["skin"]
            surfaces.append(_skinned(file, surface, rows, places[skin], to_bind[skin], brought[skin]))
        else:
            j = joints.holder[node]
            rows[:, j] = 1
            surfaces.append(surface.moved((bind[j] @ joints.offset[node])[None]))
    return _assemble(file, graph, joints, bind, surfaces, weights)


def _moves(file: GltfFile, joints: Joints) -> bool:
    """Whether any animation moves a joint."""
    return any(c["target"].get("node") in joints.index and c["target"].get("path") in PATHS
               for a in file.items("animations") for c in a["channels"])


def _assemble(file: GltfFile, graph: Graph, joints: Joints, bind: np.ndarray, surfaces: list[Surface],
              weights: np.ndarray) -> Rig:
    """Put the parts together, and add motion."""
    vertices = np.concatenate([s.vertices for s in surfaces])
    if not np.isfinite(vertices).all():
        raise file.damaged("positions are NaN or infinite")
    starts = np.cumsum([0] + [len(s.vertices) for s in surfaces])
    faces = np.concatenate([s.faces + start for s, start in zip(surfaces, starts)])
    materials, face_material = read_materials(file, np.concatenate([s.materials for s in surfaces]))
    appearance = Appearance(materials, face_material, _stack(surfaces, "uv", 0.0, 2),
                            _stack(surfaces, "colors", 1.0, 4))
    _mend_weights(file, vertices, weights)
    rig = Rig(vertices, faces, weights, Skeleton(joints.parents, joints.names, bind), (), appearance, file.path.stem)
    rest = _default_pose(graph, joints)
    worst = np.abs(rig.joint_transforms(rest, [0])[0, :, :3, 3] - rig.skeleton.joints).max()
    differs = bool(max(worst, np.abs(rig.pose(rest, [0])[0] - vertices).max()) > 1e-5 * rig.size)
    moving = _animations(file, rest, joints)
    names = unique([a.name for a in ([rest] if differs else []) + moving])     # `rest` keeps its name
    moving = [replace(a, name=name) for a, name in zip(moving, names[differs:])]
    return rig.replace(animations=[*moving, rest] if differs else moving, notes=file.notes)


def _inverse_bind(file: GltfFile, skin: int, count: int) -> np.ndarray:
    """Inverse bind matrices of a skin's joints; identities where the file leaves them out."""
    entry = file.item("skins", skin)
    if "inverseBindMatrices" not in entry:
        return np.repeat(np.eye(4)[None], count, axis=0)
    matrices = file.accessor(entry["inverseBindMatrices"])
    if matrices.shape[1:] != (4, 4) or len(matrices) < count:
        raise file.damaged(f"skins[{skin}] has {count} joints and {len(matrices)} inverse bind matrices")
    matrices = matrices[:count].copy()
    matrices[:, 3] = [0, 0, 0, 1]
    if not np.isfinite(matrices).all() or np.any(np.linalg.det(matrices[:, :3, :3]) == 0):
        raise file.damaged(f"an inverse bind matrix of skins[{skin}] has no inverse")
    return matrices


def _skinned(file: GltfFile, surface: Surface, rows: np.ndarray, places: np.ndarray, to_bind: np.ndarray,
             brought: np.ndarray) -> Surface:
    """Bring a skinned part to bind pose, and fill its rows (N, J) of the weights.

    ``places`` (K,) are the joints of its skin, ``to_bind`` (K, 4, 4) the matrix C that each of them would have, and
    ``brought`` the one that the skin has.
    """
    if surface.joints is None:
        raise file.damaged("a mesh has a skin, but no JOINTS_0 and WEIGHTS_0")
    used = surface.joints[np.nan_to_num(surface.weights) != 0]
    if len(used) and used.max() >= len(places):
        raise file.damaged(f"a vertex follows joint {used.max()} of a skin with {len(places)} joints")
    columns = places[np.minimum(surface.joints, len(places) - 1)]
    np.add.at(rows, (np.arange(len(rows))[:, None], columns), surface.weights)
    if np.abs(to_bind - brought).max() <= 1e-3 * np.abs(brought).max():
        return surface.moved(brought[None])
    file.note("skins disagree about the bind pose by more than one constant matrix; later ones are blended to the bind "
              "pose of the first", logging.WARNING)
    known = np.nan_to_num(rows[:, places])
    total = known.sum(1)[:, None, None]
    blended = np.einsum("nj,jab->nab", known, to_bind) / np.where(total > 0, total, 1)
    return surface.moved(np.where(total > 0, blended, brought))


def _mend_weights(file: GltfFile, vertices: np.ndarray, weights: np.ndarray) -> None:
    """Make rows sum to 1, in place; vertices without usable weights take those of the nearest that has some."""
    from scipy.spatial import cKDTree

    sums = weights.sum(1)
    bad = ~np.isfinite(sums)
    weights[bad] = 0
    np.maximum(weights, 0, out=weights)
    sums = weights.sum(1)
    good = sums > 1e-6
    if not good.any():
        raise RigError(f"{file.path} has no vertex with weights; bind the mesh to its armature and export it again")
    weights[good] /= sums[good, None]
    if not good.all():
        file.note(f"{(~good).sum()} of {len(good)} vertices have no usable weights; they take their nearest "
                  "neighbours'", logging.WARNING)
        _, nearest = cKDTree(vertices[good]).query(vertices[~good])
        weights[~good] = weights[good][nearest]


def _default_pose(graph: Graph, joints: Joints) -> Animation:
    """The default node pose as a still animation named ``rest``."""
    states = {}
    for path, values in graph.state.items():
        identity = [0.0, 0, 0, 1] if path == "rotation" else [float(path == "scale")] * 3
        states[path] = np.array([values[n] if n >= 0 and "matrix" not in graph.nodes[n] else identity
                                 for n in joints.nodes])
    plain = np.array_equal(joints.before, np.broadcast_to(np.eye(4), joints.before.shape))
    return Animation("rest", 0.0, **states, before=None if plain else joints.before)


def _animations(file: GltfFile, rest: Animation, joints: Joints) -> list[Animation]:
    """All animations that move a joint. ``rest`` gives what no track moves."""
    found, others, cache = [], [], {}

    def read(index: int) -> np.ndarray:
        if index not in cache:
            cache[index] = file.accessor(index)
        return cache[index]

    for a, entry in enumerate(file.items("animations")):
        tracks = []
        for channel in entry["channels"]:
            target = channel["target"]
            if target.get("node") in joints.index and target["path"] in PATHS:
                sampler = entry["samplers"][channel["sampler"]]
                tracks.append(_track(file, sampler, joints.index[target["node"]], target["path"], read))
        if tracks:
            duration = float(max(t.times[-1] for t in tracks))
            name = str(entry.get("name") or f"animation_{a}")
            found.append(replace(rest, name=name, duration=duration, tracks=tuple(tracks)))
        else:
            others.append(str(entry.get("name") or f"animation_{a}"))
    if others:
        file.note(f"animations that move no joint are left out: {', '.join(others):.200}")
    return found


def _track(file: GltfFile, sampler: dict, joint: int, path: str, read) -> Track:
    """One channel; checks what interpolation relies on."""
    times, values = read(sampler["input"]), read(sampler["output"])
    kind, what = sampler.get("interpolation", "LINEAR"), f"the {path} of an animation"
    if kind not in ("LINEAR", "STEP", "CUBICSPLINE"):
        raise file.damaged(f"{what} has the interpolation {kind!r}")
    expected = (len(times) * (3 if kind == "CUBICSPLINE" else 1), PATHS[path])
    if times.ndim != 1 or not len(times) or values.shape != expected:
        raise file.damaged(f"{what} has {len(times)} times, and values of shape {values.shape}, not {expected}")
    if not np.isfinite(times).all() or not np.isfinite(values).all() or np.any(np.diff(times) < 0):
        raise file.damaged(f"{what} has values that are not finite, or times that go backwards")
    file.spend(values.nbytes, "an animation")        # again, as tracks may share what posing then stacks
    if kind == "CUBICSPLINE":
        values = values.reshape(len(times), 3, -1)
    elif path == "rotation":
        norms = np.linalg.norm(values, axis=1, keepdims=True)
        if norms.min() < 1e-6:
            raise file.damaged(f"{what} holds a quaternion of length 0")
        values = values / norms
    return Track(joint, path, times, values, kind)


def _stack(surfaces: list[Surface], attribute: str, missing: float, width: int) -> np.ndarray | None:
    """An optional attribute of all vertices; None if no part has it."""
    if all(getattr(s, attribute) is None for s in surfaces):
        return None
    return np.concatenate([np.full((len(s.vertices), width), missing) if getattr(s, attribute) is None
                           else getattr(s, attribute) for s in surfaces])
