"""Small glTF files made by hand, to be bent into every shape that the format allows."""

from __future__ import annotations

import base64
import copy
import json
import struct
from pathlib import Path

import numpy as np

CODES = {"int8": 5120, "uint8": 5121, "int16": 5122, "uint16": 5123, "uint32": 5125, "float32": 5126}
TYPES = {(): "SCALAR", (2,): "VEC2", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}


class Sample:
    """A document and its binary buffer."""

    def __init__(self) -> None:
        self.json: dict = {"asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": []}], "nodes": [],
                           "meshes": [], "skins": [], "animations": [], "accessors": [], "bufferViews": []}
        self.binary = b""

    def view(self, content: bytes, **more) -> int:
        self.binary += b"\0" * (-len(self.binary) % 4)
        self.json["bufferViews"].append({"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(content),
                                         **more})
        self.binary += content
        return len(self.json["bufferViews"]) - 1

    def add(self, values, dtype: str = "float32", normalized: bool = False) -> int:
        values = np.ascontiguousarray(values, dtype)
        shape = values.shape[1:]
        content = values.transpose(0, 2, 1).tobytes() if shape == (4, 4) else values.tobytes()
        self.json["accessors"].append({"bufferView": self.view(content), "componentType": CODES[dtype],
                                       "count": len(values), "type": TYPES[shape]})
        if normalized:
            self.json["accessors"][-1]["normalized"] = True
        return len(self.json["accessors"]) - 1

    def animate(self, node: int, path: str, times, values, interpolation: str = "LINEAR") -> None:
        if not self.json["animations"]:
            self.json["animations"].append({"name": "move", "samplers": [], "channels": []})
        entry = self.json["animations"][0]
        entry["samplers"].append({"input": self.add(times), "output": self.add(values), "interpolation": interpolation})
        entry["channels"].append({"sampler": len(entry["samplers"]) - 1, "target": {"node": node, "path": path}})

    @property
    def primitive(self) -> dict:
        return self.json["meshes"][0]["primitives"][0]

    def document(self, uri: str | None = None) -> dict:
        out = {k: v for k, v in copy.deepcopy(self.json).items() if v != []}
        out["buffers"] = [{"byteLength": len(self.binary), **({"uri": uri} if uri else {})}]
        return out

    def glb(self) -> bytes:
        text = json.dumps(self.document()).encode()
        text += b" " * (-len(text) % 4)
        binary = self.binary + b"\0" * (-len(self.binary) % 4)
        return (struct.pack("<3I", 0x46546C67, 2, 28 + len(text) + len(binary))
                + struct.pack("<2I", len(text), 0x4E4F534A) + text
                + struct.pack("<2I", len(binary), 0x004E4942) + binary)

    def write(self, path: Path, how: str = "glb") -> Path:
        """As .glb, or as .gltf with a ``data`` URI or a ``side`` file; returns the path."""
        if how == "glb":
            path = path.with_suffix(".glb")
            path.write_bytes(self.glb())
            return path
        path = path.with_suffix(".gltf")
        uri = "data:application/octet-stream;base64," + base64.b64encode(self.binary).decode()
        if how == "side":
            uri = "side file.bin"
            (path.parent / uri).write_bytes(self.binary)
            uri = uri.replace(" ", "%20")
        path.write_text(json.dumps(self.document(uri)))
        return path


def under_draco(sample: Sample) -> Sample:
    """The first primitive as a Draco stream, in the same order, and nothing else."""
    import DracoPy

    names = {name: n for n, name in enumerate(sorted(sample.primitive["attributes"]))}
    stored = {name: values(sample, a) for name, a in sample.primitive["attributes"].items()}
    stream = DracoPy.encode(stored["POSITION"], values(sample, sample.primitive["indices"]).reshape(-1, 3),
                            quantization_bits=20, preserve_order=True,
                            generic_attributes={10 + names[n]: v for n, v in stored.items() if n != "POSITION"})
    position = next(a["unique_id"] for a in DracoPy.decode(stream).attributes if a["attribute_type"] == 0)
    ids = {name: position if name == "POSITION" else 10 + n for name, n in names.items()}
    for index in (*sample.primitive["attributes"].values(), sample.primitive["indices"]):
        del sample.json["accessors"][index]["bufferView"]
    sample.primitive["extensions"] = {"KHR_draco_mesh_compression": {"bufferView": sample.view(stream),
                                                                     "attributes": ids}}
    sample.json["extensionsRequired"] = sample.json["extensionsUsed"] = ["KHR_draco_mesh_compression"]
    return sample


def values(sample: Sample, accessor: int) -> np.ndarray:
    """What :meth:`Sample.add` was given."""
    entry = sample.json["accessors"][accessor]
    dtype = {code: name for name, code in CODES.items()}[entry["componentType"]]
    shape = {name: shape for shape, name in TYPES.items()}[entry["type"]]
    start = sample.json["bufferViews"][entry["bufferView"]]["byteOffset"]
    count = entry["count"] * int(np.prod(shape, dtype=int))
    return np.frombuffer(sample.binary, dtype, count, start).reshape(-1, *shape)


def robot() -> Sample:
    """Boxes on nodes, no skin: a base that stands, an arm that turns, a hand on it that does not, and a thing aside.

    Nodes: 0 wrapper (identity), 1 base (moves), 2 arm (turns), 3 a material's part of the arm (identity), 4 hand, 5 a
    joint without a mesh (moves), 6 its finger, 7 a lamp that moves and carries nothing, 8 a crate that stands aside.
    """
    s = Sample()
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    faces = s.add(np.ravel([[[a, b, c], [a, c, d]] for a, b, c, d in quads]), "uint16")
    s.json["meshes"] = [{"primitives": [{"attributes": {"POSITION": s.add(corners * size)}, "indices": faces}]}
                        for size in ([2, 0.5, 2], [0.3, 2, 0.3], [0.1, 2, 0.3], [0.5, 0.5, 0.5], [0.1, 0.4, 0.1],
                                     [1, 1, 1])]
    half = np.sqrt(0.5)
    s.json["nodes"] = [{"name": "wrapper", "children": [1, 8]},
                       {"name": "base", "mesh": 0, "children": [2, 7], "translation": [1, 0, 0]},
                       {"name": "arm", "mesh": 1, "children": [3, 4], "translation": [1, 0.5, 1], "scale": [1, 2, 1]},
                       {"name": "arm, second material", "mesh": 2},
                       {"name": "hand", "mesh": 3, "children": [5], "translation": [0, 2, 0],
                        "rotation": [half, 0, 0, half]},
                       {"name": "knuckle", "children": [6], "translation": [0, 0.5, 0], "scale": [0, 0, 0]},
                       {"name": "finger", "mesh": 4},
                       {"name": "lamp"},
                       {"name": "crate", "mesh": 5, "translation": [-3, 0, 0]}]
    s.json["scenes"][0]["nodes"] = [0]
    s.animate(1, "translation", [0, 1.5], [[1, 0, 0], [4, 0, 2]])
    s.animate(2, "rotation", [0, 0.5, 1.5], [[0, 0, 0, 1], [0, 0, half, half], [0, half, 0, half]])
    s.animate(5, "scale", [0, 0.1, 1], [[0, 0, 0], [1, 1, 1], [1, 3, 1]])
    s.animate(7, "translation", [0, 1], [[0, 0, 0], [0, 1, 0]])
    return s


def bar(animated: bool = True) -> Sample:
    """A bar of 12 vertices along x over two joints, in centimetres, z up, below a node that scales and turns.

    Nodes: 0 armature, 1 joint ``base``, 2 joint ``tip``, 3 the skinned mesh. The default pose is not the bind pose.
    """
    s = Sample()
    half = np.sqrt(0.5)
    s.json["nodes"] = [{"name": "armature", "children": [1], "rotation": [-half, 0, 0, half], "scale": [0.01] * 3},
                       {"name": "base", "children": [2], "translation": [5, 2, 1]},
                       {"name": "tip", "translation": [100, 0, 0], "rotation": [0, 0, np.sin(0.2), np.cos(0.2)]},
                       {"name": "bar", "mesh": 0, "skin": 0}]
    s.json["scenes"][0]["nodes"] = [0, 3]
    x = np.repeat([0, 50, 150, 200], 3)
    corner = np.tile([[0, -10, -10], [0, 10, -10], [0, 0, 10]], (4, 1))
    points = corner + np.stack([x, 0 * x, 0 * x], 1)
    ring = [[a + i, a + (i + 1) % 3, b + i] for a, b in ((0, 3), (3, 6), (6, 9)) for i in range(3)]
    ring += [[a + (i + 1) % 3, b + (i + 1) % 3, b + i] for a, b in ((0, 3), (3, 6), (6, 9)) for i in range(3)]
    share = np.clip((x - 40) / 120, 0, 1)
    weights = np.stack([1 - share, share, 0 * share, 0 * share], 1)
    s.json["meshes"] = [{"primitives": [{
        "attributes": {"POSITION": s.add(points), "JOINTS_0": s.add(np.tile([0, 1, 0, 0], (12, 1)), "uint8"),
                       "WEIGHTS_0": s.add(weights)}, "indices": s.add(np.ravel(ring), "uint16")}]}]
    inverse = np.repeat(np.eye(4)[None], 2, axis=0)
    inverse[1, 0, 3] = -100
    s.json["skins"] = [{"joints": [1, 2], "inverseBindMatrices": s.add(inverse)}]
    if animated:
        s.animate(2, "rotation", [0, 0.5, 1.5], [[0, 0, 0, 1], [0, 0, half, half], [0, half, 0, half]])
        s.animate(1, "translation", [0.25, 1], [[5, 2, 1], [9, -4, 30]])
    return s
