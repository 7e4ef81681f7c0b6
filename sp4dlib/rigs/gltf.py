"""glTF 2.0 files to rigs; the way back is :mod:`~sp4dlib.rigs.gltf_writer`.

What a file holds and what a rig is differ in one point, the bind pose. In the file, vertices lie in the space of a
skin, and only the skin's inverse bind matrices (IBM) bring them to the joints. Exporters leave any scale and any
orientation there. Here one matrix per skin, ``C = world(root joint) IBM(root joint)`` at the default node pose, brings
vertices and joints upright and to scene units: ``vertices = C raw``, ``bind_j = C inv(IBM_j)``. Posed positions do not
depend on C: ``world_j(t) inv(bind_j) C raw = world_j(t) IBM_j raw``, which is glTF's own formula.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sp4dlib.rigs.gltf_file import GltfFile, unique
from sp4dlib.rigs.gltf_meshes import Surface, read_materials, read_surfaces
from sp4dlib.rigs.gltf_writer import save
from sp4dlib.rigs.rig import PATHS, Animation, Appearance, Rig, RigError, Skeleton, Track, compose

__all__ = ["load", "save"]

log = logging.getLogger(__name__)


def load(path: str | Path) -> Rig:
    """Read a rigged mesh from a .glb or .gltf file.

    All mesh parts of the default scene become one mesh, in the order of their nodes; all skins one skeleton. A part
    without a skin follows the joint it hangs on with weight 1. A node that is no joint becomes one, mostly without
    weight, where it is animated and something hangs on it. Morph targets, lights and cameras are left out.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    Rig
        With the bind pose upright and in scene units. Several root joints hang on a weightless joint 0, ``root``.
        A default node pose that is not the bind pose is the last animation, ``rest``, of duration 0.

    Raises
    ------
    RigError
        If the file cannot be read, is damaged, holds no mesh or no skin, or needs an extension such as Draco
        compression. The message names the file and says how to mend it.
    """
    file = GltfFile(Path(path))
    try:
        return _rig(file)
    except RigError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise file.damaged(f"{type(error).__name__}: {error}") from error


class _Graph:
    """Nodes of the file, and where they stand by default."""

    def __init__(self, file: GltfFile) -> None:
        self.nodes = file.items("nodes")
        count = len(self.nodes)
        self.parents = np.full(count, -1)
        for i, node in enumerate(self.nodes):
            for child in node.get("children", []):
                file.item("nodes", child)
                if self.parents[child] >= 0:
                    raise file.damaged(f"nodes[{child}] has two parents")
                self.parents[child] = i
        for i in range(count):
            if len(self.ancestors(i, limit=count)) == count:
                raise file.damaged(f"nodes[{i}] is its own ancestor")
        # A node has either a matrix, and then cannot be animated, or translation, rotation and scale.
        self.matrix = np.array([np.reshape(n["matrix"], (4, 4)).T if "matrix" in n else np.eye(4) for n in self.nodes],
                               np.float64).reshape(-1, 4, 4)
        default = {"translation": [0, 0, 0], "rotation": [0, 0, 0, 1], "scale": [1, 1, 1]}
        self.state = {path: np.array([n.get(path, value) for n in self.nodes], np.float64).reshape(-1, len(value))
                      for path, value in default.items()}
        self.local = self.matrix @ compose(**self.state)
        self.in_scene = self._in_scene(file)

    def _in_scene(self, file: GltfFile) -> set[int]:
        if not file.items("scenes"):
            return set(range(len(self.nodes)))
        roots = set(file.item("scenes", file.json.get("scene", 0)).get("nodes", []))
        return {i for i in range(len(self.nodes)) if roots & {i, *self.ancestors(i)}}

    def ancestors(self, node: int, limit: int | None = None) -> list[int]:
        """Parent, grandparent, ... of a node; at most ``limit``."""
        out, node = [], self.parents[node]
        while node >= 0 and (limit is None or len(out) < limit):
            out.append(int(node))
            node = self.parents[node]
        return out

    def relative(self, node: int, ancestor: int) -> np.ndarray:
        """Default transform of ``node`` in the space of ``ancestor``, -1 for the world."""
        out = np.eye(4)
        while node != ancestor and node >= 0:
            out = self.local[node] @ out
            node = int(self.parents[node])
        return out


@dataclass(frozen=True)
class _Joints:
    """The joints of the rig as nodes: ``nodes[j]`` is the node of joint j, -1 for an added root."""

    nodes: list[int]
    parents: np.ndarray
    names: tuple[str, ...]

    def of(self, node: int) -> int:
        return self.nodes.index(node)


def _rig(file: GltfFile) -> Rig:
    graph = _Graph(file)
    meshes = [i for i in sorted(graph.in_scene) if "mesh" in graph.nodes[i]]
    if not meshes:
        raise RigError(f"{file.path} holds no mesh; export the mesh together with its armature")
    skins = sorted({graph.nodes[i]["skin"] for i in meshes if "skin" in graph.nodes[i]})
    if not skins:
        raise RigError(f"{file.path} holds a mesh but no skin, so nothing says how it moves; export it with its "
                       "armature, or read it as a plain mesh and rig it (sp4dlib.lifting)")
    members = {s: file.item("skins", s)["joints"] for s in skins}
    for node in (n for nodes in members.values() for n in nodes):
        file.item("nodes", node)
    joints = _find_joints(file, graph, members, [i for i in meshes if "skin" not in graph.nodes[i]])
    before = _before(graph, joints)
    inverse = {s: _inverse_bind(file, s, len(members[s])) for s in skins}
    bind, brought = _bind(graph, joints, before, members, inverse)
    surfaces, weights = [], []
    for i in meshes:
        if "skin" not in graph.nodes[i] and not any(n in joints.nodes for n in (i, *graph.ancestors(i))):
            log.warning("%s: part %r hangs on no joint; it is tied to joint 0, %r", file.path.name,
                        graph.nodes[i].get("name", i), joints.names[0])
        for surface in read_surfaces(file, graph.nodes[i]["mesh"]):
            placed = _place(file, graph, joints, bind, members, inverse, brought, i, surface)
            surfaces.append(placed[0])
            weights.append(placed[1])
    if not surfaces:
        raise RigError(f"{file.path} holds meshes without triangles; export the surface as triangles")
    return _assemble(file, graph, joints, before, bind, surfaces, np.concatenate(weights))


def _assemble(file: GltfFile, graph: _Graph, joints: _Joints, before: np.ndarray, bind: np.ndarray,
              surfaces: list[Surface], weights: np.ndarray) -> Rig:
    """Put the parts together, and add motion."""
    vertices = np.concatenate([s.vertices for s in surfaces])
    starts = np.cumsum([0] + [len(s.vertices) for s in surfaces])
    faces = np.concatenate([s.faces + start for s, start in zip(surfaces, starts)])
    materials, face_material = read_materials(file, np.concatenate([s.materials for s in surfaces]))
    appearance = Appearance(materials, face_material, _stack(surfaces, "uv", 0.0, 2),
                            _stack(surfaces, "colors", 1.0, 4))
    weights = _mend_weights(file, vertices, weights)
    rig = Rig(vertices, faces, weights, Skeleton(joints.parents, joints.names, bind), (), appearance, file.path.stem)
    rest = _default_pose(graph, joints, before)
    worst = np.abs(rig.joint_transforms(rest, [0])[0, :, :3, 3] - rig.skeleton.joints).max()
    differs = bool(max(worst, np.abs(rig.pose(rest, [0])[0] - vertices).max()) > 1e-5 * rig.size)
    moving = _animations(file, rest, joints)
    names = unique([a.name for a in ([rest] if differs else []) + moving])     # `rest` keeps its name
    moving = [replace(a, name=name) for a, name in zip(moving, names[differs:])]
    return rig.replace(animations=[*moving, rest] if differs else moving)


def _find_joints(file: GltfFile, graph: _Graph, members: dict[int, list[int]], rigid: list[int]) -> _Joints:
    """All joints of all skins, and animated nodes that carry joints or parts; parents first, else in file order."""
    listed = list(dict.fromkeys(n for nodes in members.values() for n in nodes))
    animated = {c["target"].get("node") for a in file.items("animations") for c in a["channels"]
                if c["target"]["path"] in PATHS}
    carriers = {a for n in listed + rigid for a in graph.ancestors(n)} | set(rigid)
    wanted = set(listed) | (animated & carriers)
    order: dict[int, None] = {}
    for node in listed + sorted(wanted - set(listed)):
        for ancestor in reversed([node, *graph.ancestors(node)]):
            if ancestor in wanted:
                order.setdefault(ancestor)
    nodes = list(order)
    index = {node: j for j, node in enumerate(nodes)}
    parents = [next((index[a] for a in graph.ancestors(node) if a in index), -1) for node in nodes]
    names = [graph.nodes[node].get("name") or f"joint_{node}" for node in nodes]
    if parents.count(-1) > 1:
        nodes, names, parents = [-1, *nodes], ["root", *names], [-1, *(p + 1 for p in parents)]
    return _Joints(nodes, np.array(parents), unique(names))


def _before(graph: _Graph, joints: _Joints) -> np.ndarray:
    """Constant matrices between each joint and its parent joint (or the world), shape (J, 4, 4)."""
    out = np.repeat(np.eye(4)[None], len(joints.nodes), axis=0)
    for j, node in enumerate(joints.nodes):
        if node >= 0:
            above = joints.nodes[joints.parents[j]] if joints.parents[j] >= 0 else -1
            out[j] = graph.relative(int(graph.parents[node]), above) @ graph.matrix[node]
    return out


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


def _bind(graph: _Graph, joints: _Joints, before: np.ndarray, members: dict[int, list[int]],
          inverse: dict[int, np.ndarray]) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Joint-to-world matrices at bind pose, and the matrix C of each skin."""
    bind = np.full((len(joints.nodes), 4, 4), np.nan)
    brought = {}
    for skin, nodes in members.items():
        places = [joints.of(n) for n in nodes]
        shared = [k for k, j in enumerate(places) if not np.isnan(bind[j, 0, 0])]
        if shared:
            brought[skin] = bind[places[shared[0]]] @ inverse[skin][shared[0]]
        else:
            root = int(np.argmin(places))           # parents precede children
            brought[skin] = graph.relative(nodes[root], -1) @ inverse[skin][root]
        for k, j in enumerate(places):
            if np.isnan(bind[j, 0, 0]):
                bind[j] = brought[skin] @ np.linalg.inv(inverse[skin][k])
    for j, node in enumerate(joints.nodes):         # joints of no skin stand as they do by default
        if np.isnan(bind[j, 0, 0]):
            above = bind[joints.parents[j]] if joints.parents[j] >= 0 else np.eye(4)
            state = {path: values[node] for path, values in graph.state.items()} if node >= 0 else None
            bind[j] = above @ before[j] @ (compose(**state) if state else np.eye(4))
    return bind, brought


def _place(file: GltfFile, graph: _Graph, joints: _Joints, bind: np.ndarray, members: dict, inverse: dict,
           brought: dict, node: int, surface: Surface) -> tuple[Surface, np.ndarray]:
    """Bring one part to bind pose; returns it and its weights (N, J)."""
    weights = np.zeros((len(surface.vertices), len(joints.nodes)))
    if "skin" not in graph.nodes[node]:
        holder = next((n for n in (node, *graph.ancestors(node)) if n in joints.nodes), None)
        if holder is None:
            matrix, j = graph.relative(node, -1), 0
        else:
            j = joints.of(holder)
            matrix = bind[j] @ graph.relative(node, holder)
        weights[:, j] = 1
        return surface.moved(np.broadcast_to(matrix, (len(weights), 4, 4))), weights
    skin = graph.nodes[node]["skin"]
    if surface.joints is None:
        raise file.damaged(f"nodes[{node}] has a skin, but its mesh has no JOINTS_0 and WEIGHTS_0")
    used = surface.joints[np.nan_to_num(surface.weights) != 0]
    if len(used) and used.max() >= len(members[skin]):
        raise file.damaged(f"a vertex follows joint {used.max()} of a skin with {len(members[skin])} joints")
    places = np.array([joints.of(n) for n in members[skin]])
    columns = places[np.minimum(surface.joints, len(places) - 1)]
    np.add.at(weights, (np.arange(len(weights))[:, None], columns), surface.weights)
    matrices = np.broadcast_to(brought[skin], (len(weights), 4, 4))
    to_bind = bind[places] @ inverse[skin]                      # C for every joint, if the skins agree
    if np.abs(to_bind - brought[skin]).max() > 1e-3 * np.abs(brought[skin]).max():
        log.warning("%s: skins disagree about the bind pose by more than one constant matrix; skin %d is blended to "
                    "the first skin's bind pose", file.path.name, skin)
        known = np.nan_to_num(weights[:, places])
        total = known.sum(1)[:, None, None]
        blended = np.einsum("nj,jab->nab", known, to_bind) / np.where(total > 0, total, 1)
        matrices = np.where(total > 0, blended, matrices)
    return surface.moved(matrices), weights


def _mend_weights(file: GltfFile, vertices: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Rows that sum to 1; vertices without usable weights take those of the nearest vertex that has some."""
    from scipy.spatial import cKDTree

    finite = np.isfinite(weights).all(1)
    weights = np.where(finite[:, None], np.maximum(weights, 0), 0)
    good = weights.sum(1) > 1e-6
    if not good.any():
        raise RigError(f"{file.path} has no vertex with weights; bind the mesh to its armature and export it again")
    if not good.all():
        log.warning("%s: %d of %d vertices have no usable weights; they take their nearest neighbours'",
                    file.path.name, (~good).sum(), len(good))
        _, nearest = cKDTree(vertices[good]).query(vertices[~good])
        weights[~good] = weights[good][nearest]
    return weights / weights.sum(1, keepdims=True)


def _default_pose(graph: _Graph, joints: _Joints, before: np.ndarray) -> Animation:
    """The default node pose as a still animation named ``rest``."""
    states = {}
    for path, values in graph.state.items():
        identity = [0.0, 0, 0, 1] if path == "rotation" else [float(path == "scale")] * 3
        states[path] = np.array([values[n] if n >= 0 and "matrix" not in graph.nodes[n] else identity
                                 for n in joints.nodes])
    plain = np.allclose(before, np.eye(4), atol=0, rtol=0)
    return Animation("rest", 0.0, **states, before=None if plain else before)


def _animations(file: GltfFile, rest: Animation, joints: _Joints) -> list[Animation]:
    """All animations that move a joint. ``rest`` gives what no track moves."""
    found, cache = [], {}

    def read(index: int) -> np.ndarray:
        if index not in cache:
            cache[index] = file.accessor(index)
        return cache[index]

    for a, entry in enumerate(file.items("animations")):
        tracks = []
        for channel in entry["channels"]:
            target = channel["target"]
            if target.get("node") in joints.nodes and target["path"] in PATHS:
                sampler = entry["samplers"][channel["sampler"]]
                tracks.append(_track(file, sampler, joints.of(target["node"]), target["path"], read))
        if tracks:
            duration = float(max(t.times[-1] for t in tracks))
            found.append(Animation(entry.get("name") or f"animation_{a}", duration, rest.translation, rest.rotation,
                                   rest.scale, tuple(tracks), rest.before))
        else:
            log.info("%s: animation %r moves no joint; left out", file.path.name, entry.get("name", a))
    return found


def _track(file: GltfFile, sampler: dict, joint: int, path: str, read) -> Track:
    """One channel; checks what interpolation relies on."""
    times, values = read(sampler["input"]), read(sampler["output"])
    kind, what = sampler.get("interpolation", "LINEAR"), f"the {path} of an animation"
    if kind not in ("LINEAR", "STEP", "CUBICSPLINE"):
        raise file.damaged(f"{what} has the interpolation {kind!r}")
    expected = (len(times) * (3 if kind == "CUBICSPLINE" else 1), PATHS[path])
    if not len(times) or values.shape != expected:
        raise file.damaged(f"{what} has {len(times)} times, and values of shape {values.shape}, not {expected}")
    if not np.isfinite(times).all() or not np.isfinite(values).all() or np.any(np.diff(times) < 0):
        raise file.damaged(f"{what} has values that are not finite, or times that go backwards")
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
