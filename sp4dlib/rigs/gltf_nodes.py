"""Nodes of a glTF 2.0 file: where they stand, and which of them are joints of the rig."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sp4dlib.rigs.gltf_file import GltfFile, unique
from sp4dlib.rigs.rig import PATHS, RigError, compose

MAX_JOINTS = 2**14
DEFAULT = {"translation": [0, 0, 0], "rotation": [0, 0, 0, 1], "scale": [1, 1, 1]}


class Graph:
    """Nodes of the file, and where they stand by default.

    Attributes
    ----------
    nodes : list of dict
    parents : list of int
        -1 at the roots.
    order : list of int
        All nodes, parents first.
    matrix, local, world : ndarray, shape (n, 4, 4)
        The constant matrix that a node has in place of translation, rotation and scale; the transforms to the parent
        and to the world.
    state : dict of ndarray
        Default ``translation`` (n, 3), ``rotation`` (n, 4) and ``scale`` (n, 3).
    in_scene : ndarray of bool, shape (n,)
    """

    def __init__(self, file: GltfFile) -> None:
        self.nodes = file.items("nodes")
        self.parents, self.order = _tree(file, self.nodes)
        # A node has either a matrix, and then cannot be animated, or translation, rotation and scale.
        self.matrix = np.array([np.reshape(n["matrix"], (4, 4)).T if "matrix" in n else np.eye(4) for n in self.nodes],
                               np.float64).reshape(-1, 4, 4)
        self.state = {path: np.array([n.get(path, value) for n in self.nodes], np.float64).reshape(-1, len(value))
                      for path, value in DEFAULT.items()}
        if not all(np.isfinite(values).all() for values in (self.matrix, *self.state.values())):
            raise file.damaged("the transform of a node is not finite")
        if np.any(np.linalg.norm(self.state["rotation"], axis=1) < 1e-6):
            raise file.damaged("the rotation of a node is a quaternion of length 0")
        self.local = self.matrix @ compose(**self.state)
        self.world = self.local.copy()
        self.in_scene = np.full(len(self.nodes), not file.items("scenes"))
        if file.items("scenes"):
            for node in file.item("scenes", file.json.get("scene", 0)).get("nodes", []):
                file.item("nodes", node)
                self.in_scene[node] = True
        for node in self.order:
            if self.parents[node] >= 0:
                self.world[node] = self.world[self.parents[node]] @ self.local[node]
                self.in_scene[node] |= self.in_scene[self.parents[node]]

    def name(self, node: int) -> str:
        """Name of a node for messages and joints."""
        return str(self.nodes[node].get("name") or f"node_{node}")


def _tree(file: GltfFile, nodes: list[dict]) -> tuple[list[int], list[int]]:
    """Parents of all nodes, and the nodes with parents first."""
    parents = [-1] * len(nodes)
    for i, node in enumerate(nodes):
        for child in node.get("children", []):
            file.item("nodes", child)
            if parents[child] >= 0:
                raise file.damaged(f"nodes[{child}] has two parents")
            parents[child] = i
    order = [i for i, parent in enumerate(parents) if parent < 0]
    for node in order:                      # the list grows while it is read
        order += nodes[node].get("children", [])
    if len(order) < len(nodes):
        raise file.damaged(f"nodes[{min(set(range(len(nodes))) - set(order))}] is its own ancestor")
    return parents, order


@dataclass(frozen=True)
class Joints:
    """The joints of the rig among the nodes of its file.

    Attributes
    ----------
    nodes : tuple of int, length J
        -1 for an added root.
    parents : ndarray of int, shape (J,)
    names : tuple of str, length J
    before : ndarray, shape (J, 4, 4)
        Constant matrix between a joint and its parent joint, or the world.
    index : dict of int to int
        Joint of a node.
    holder : ndarray of int, shape (n,)
        Joint that each node is or follows; -1 for none.
    offset : ndarray, shape (n, 4, 4)
        Transform from each node to its holder, or to the world.
    """

    nodes: tuple[int, ...]
    parents: np.ndarray
    names: tuple[str, ...]
    before: np.ndarray
    index: dict[int, int]
    holder: np.ndarray
    offset: np.ndarray

    def __len__(self) -> int:
        return len(self.nodes)


def find_joints(file: GltfFile, graph: Graph, listed: list[int], parts: list[int]) -> Joints:
    """The joints of all skins, and what moves or bears rigid parts; in the order of the skins, then of the nodes.

    Parameters
    ----------
    file : GltfFile
    graph : Graph
    listed : list of int
        Nodes that skins name as joints.
    parts : list of int
        Nodes that bear a mesh without a skin. Each is tied to the nearest node at or above it that is a joint, is
        animated, or stands away from its parent: an exporter's wrapper, a node in the very place of its parent, is no
        part of its own.
    """
    animated = {c["target"]["node"] for a in file.items("animations") for c in a["channels"]
                if c["target"].get("path") in PATHS and "node" in c["target"]}
    for node in animated:
        file.item("nodes", node)
    own = animated | set(listed)
    anchor = list(range(len(graph.nodes)))
    carries = np.zeros(len(graph.nodes), bool)
    carries[listed + parts] = True
    for node in graph.order:
        stays = np.array_equal(graph.local[node], np.eye(4)) and node not in own
        if stays and graph.parents[node] >= 0:
            anchor[node] = anchor[graph.parents[node]]
    for node in reversed(graph.order):
        if graph.parents[node] >= 0:
            carries[graph.parents[node]] |= carries[node]
    wanted = set(listed) | {n for n in own if carries[n]} | {anchor[n] for n in parts}
    if len(wanted) > MAX_JOINTS:
        raise RigError(f"{file.path} is too large: it has {len(wanted)} joints, and {MAX_JOINTS} are read; join parts, "
                       "or split the scene, and export it again")
    above, offset = [-1] * len(graph.nodes), np.repeat(np.eye(4)[None], len(graph.nodes), axis=0)
    for node in graph.order:                # `above`: the nearest wanted node at or above
        parent = graph.parents[node]
        above[node] = node if node in wanted else above[parent] if parent >= 0 else -1
        if node not in wanted:
            offset[node] = (offset[parent] if parent >= 0 else np.eye(4)) @ graph.local[node]
    return _joints(graph, listed + sorted(wanted - set(listed)), above, offset)


def _joints(graph: Graph, wanted: list[int], above: list[int], offset: np.ndarray) -> Joints:
    """Joints from the nodes that become one, parents first, below one root."""
    order: dict[int, None] = {}

    def over(node: int) -> int:
        return above[graph.parents[node]] if graph.parents[node] >= 0 else -1

    for node in wanted:
        chain = []
        while node >= 0 and node not in order:
            chain.append(node)
            node = over(node)
        order.update(dict.fromkeys(reversed(chain)))
    nodes, names = list(order), [graph.name(node) for node in order]
    before = [(offset[graph.parents[node]] if graph.parents[node] >= 0 else np.eye(4)) @ graph.matrix[node]
              for node in nodes]
    index = {node: j for j, node in enumerate(nodes)}
    parents = [index.get(over(node), -1) for node in nodes]
    if parents.count(-1) > 1:
        nodes, names, before = [-1, *nodes], ["root", *names], [np.eye(4), *before]
        parents, index = [-1, *(p + 1 for p in parents)], {node: j + 1 for node, j in index.items()}
    holder = np.array([index.get(node, -1) for node in above], np.int64)
    return Joints(tuple(nodes), np.array(parents), unique(names), np.array(before), index, holder, offset)


def bind_pose(file: GltfFile, graph: Graph, joints: Joints, members: dict[int, list[int]],
              inverse: dict[int, np.ndarray]) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Joint-to-world matrices at bind pose (J, 4, 4), and the matrix C of each skin.

    Joints of no skin stand to their parent as they do by default; those that a scale of 0 hides there, in full size.
    """
    bind = np.full((len(joints), 4, 4), np.nan)
    brought = {}
    for skin, nodes in members.items():
        places = [joints.index[n] for n in nodes]
        shared = [k for k, j in enumerate(places) if not np.isnan(bind[j, 0, 0])]
        if shared:
            brought[skin] = bind[places[shared[0]]] @ inverse[skin][shared[0]]
        else:
            root = int(np.argmin(places))           # parents precede children
            brought[skin] = graph.world[nodes[root]] @ inverse[skin][root]
        new = np.linalg.inv(inverse[skin])
        for k, j in enumerate(places):
            if np.isnan(bind[j, 0, 0]):
                bind[j] = brought[skin] @ new[k]
    for j, node in enumerate(joints.nodes):
        if np.isnan(bind[j, 0, 0]):
            above = bind[joints.parents[j]] if joints.parents[j] >= 0 else np.eye(4)
            bind[j] = above @ joints.before[j]
            if node >= 0:
                state = {path: values[node] for path, values in graph.state.items()}
                bind[j] = bind[j] @ compose(**{**state, "scale": _unhidden(state["scale"])})
        size = np.abs(bind[j, :3, :3]).max()
        if not np.isfinite(bind[j]).all() or abs(np.linalg.det(bind[j, :3, :3])) <= 1e-12 * size**3:
            raise RigError(f"{file.path}: joint {joints.names[j]!r} has no extent at bind pose (a scale of 0, or a "
                           "matrix that flattens, at its node or above); apply the scale and export it again")
    return bind, brought


def _unhidden(scale: np.ndarray) -> np.ndarray:
    return np.where(np.abs(scale) < 1e-6, 1.0, scale)
