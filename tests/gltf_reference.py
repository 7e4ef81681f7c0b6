"""An independent reader: glTF 2.0's own formulas, one node and one key at a time, sharing no code with sp4dlib."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pygltflib
from scipy.spatial.transform import Rotation, Slerp

DTYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


class Reference:
    """Positions that the specification prescribes, float64."""

    def __init__(self, path: Path) -> None:
        self.folder = Path(path).parent
        self.gltf = pygltflib.GLTF2().load(str(path))
        self._streams: dict = {}
        self.parent = {c: i for i, node in enumerate(self.gltf.nodes) for c in node.children or []}

    def _bytes(self, view: int) -> bytes:
        view = self.gltf.bufferViews[view]
        uri = self.gltf.buffers[view.buffer].uri
        if uri is None:
            content = self.gltf.binary_blob()
        elif uri.startswith("data:"):
            content = base64.b64decode(uri.split(",")[1])
        else:
            content = (self.folder / unquote(uri)).read_bytes()
        return content[view.byteOffset or 0:(view.byteOffset or 0) + view.byteLength]

    def _plain(self, view: int, offset: int, count: int, component: int, width: int) -> np.ndarray:
        dtype = np.dtype(DTYPES[component])
        stride = self.gltf.bufferViews[view].byteStride or dtype.itemsize * width
        content = self._bytes(view)
        if stride == dtype.itemsize * width:
            return np.frombuffer(content, dtype, count * width, offset).reshape(count, width).astype(np.float64)
        return np.array([np.frombuffer(content, dtype, width, offset + i * stride) for i in range(count)], np.float64)

    def accessor(self, index: int) -> np.ndarray:
        a = self.gltf.accessors[index]
        width = WIDTHS[a.type]
        if a.bufferView is None:
            out = np.zeros((a.count, width))
        else:
            out = self._plain(a.bufferView, a.byteOffset or 0, a.count, a.componentType, width)
        if a.sparse:
            i, v = a.sparse.indices, a.sparse.values
            where = self._plain(i.bufferView, i.byteOffset or 0, a.sparse.count, i.componentType, 1)[:, 0].astype(int)
            out[where] = self._plain(v.bufferView, v.byteOffset or 0, a.sparse.count, a.componentType, width)
        if a.normalized:
            out = np.maximum(out / {5120: 127, 5121: 255, 5122: 32767, 5123: 65535}[a.componentType], -1)
        return out

    def attribute(self, primitive, name: str) -> np.ndarray:
        """An attribute of a primitive, also out of a Draco stream."""
        index = getattr(primitive.attributes, name)
        draco = (primitive.extensions or {}).get("KHR_draco_mesh_compression")
        if draco is None or name not in draco["attributes"]:
            return self.accessor(index)
        if draco["bufferView"] not in self._streams:
            import DracoPy

            self._streams[draco["bufferView"]] = DracoPy.decode(self._bytes(draco["bufferView"]))
        stream = self._streams[draco["bufferView"]]
        return stream.get_attribute_by_unique_id(draco["attributes"][name])["data"].astype(np.float64)

    def _sample(self, sampler, path: str, time: float) -> np.ndarray:
        keys, values = self.accessor(sampler.input)[:, 0], self.accessor(sampler.output)
        kind = sampler.interpolation or "LINEAR"
        if kind == "CUBICSPLINE":
            into, values, out = values[0::3], values[1::3], values[2::3]
        if time <= keys[0] or len(keys) == 1:
            return values[0]
        if time >= keys[-1]:
            return values[-1]
        k = int(np.flatnonzero(keys <= time)[-1])
        if kind == "STEP":
            return values[k]
        span = keys[k + 1] - keys[k]
        t = (time - keys[k]) / span
        if kind == "CUBICSPLINE":
            return ((2 * t**3 - 3 * t**2 + 1) * values[k] + span * (t**3 - 2 * t**2 + t) * out[k]
                    + (-2 * t**3 + 3 * t**2) * values[k + 1] + span * (t**3 - t**2) * into[k + 1])
        if path == "rotation":
            return Slerp([0, 1], Rotation.from_quat(values[k:k + 2]))(t).as_quat()
        return (1 - t) * values[k] + t * values[k + 1]

    def _overrides(self, animation: int | None, time: float) -> dict:
        if animation is None:
            return {}
        entry = self.gltf.animations[animation]
        return {(c.target.node, c.target.path): self._sample(entry.samplers[c.sampler], c.target.path, time)
                for c in entry.channels}

    def world(self, node: int, moved: dict) -> np.ndarray:
        n = self.gltf.nodes[node]
        if n.matrix:
            local = np.reshape(n.matrix, (4, 4)).T.astype(float)
        else:
            local = np.eye(4)
            turn = Rotation.from_quat(moved.get((node, "rotation"), n.rotation or [0, 0, 0, 1])).as_matrix()
            local[:3, :3] = turn * np.asarray(moved.get((node, "scale"), n.scale or [1, 1, 1]), float)
            local[:3, 3] = moved.get((node, "translation"), n.translation or [0, 0, 0])
        return self.world(self.parent[node], moved) @ local if node in self.parent else local

    def inverse_bind(self, skin: int) -> np.ndarray:
        return self.accessor(self.gltf.skins[skin].inverseBindMatrices).reshape(-1, 4, 4).transpose(0, 2, 1)

    def raw(self) -> np.ndarray:
        """Positions as stored."""
        return np.concatenate([self.attribute(p, "POSITION") for n in self.gltf.nodes if n.mesh is not None
                               for p in self.gltf.meshes[n.mesh].primitives])

    def positions(self, animation: int | None, time: float) -> np.ndarray:
        """World positions of all vertices, by node, then primitive, then vertex."""
        moved, parts = self._overrides(animation, time), []
        for i, node in enumerate(self.gltf.nodes):
            if node.mesh is None:
                continue
            for primitive in self.gltf.meshes[node.mesh].primitives:
                points = self.attribute(primitive, "POSITION")
                points = np.concatenate([points, np.ones((len(points), 1))], 1)
                if node.skin is None:
                    parts.append(points @ self.world(i, moved).T)
                    continue
                joints = self.attribute(primitive, "JOINTS_0").astype(int)
                weights = self.attribute(primitive, "WEIGHTS_0")
                weights = weights / weights.sum(1, keepdims=True)
                members = self.gltf.skins[node.skin].joints
                matrices = np.array([self.world(j, moved) @ b for j, b in zip(members, self.inverse_bind(node.skin))])
                parts.append(sum(weights[:, k, None] * np.einsum("nab,nb->na", matrices[joints[:, k]], points)
                                 for k in range(4)))
        return np.concatenate(parts)[:, :3]
