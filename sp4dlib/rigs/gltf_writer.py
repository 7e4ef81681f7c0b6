"""Rigs to glTF 2.0 files."""

from __future__ import annotations

import io
import json
import logging
import os
import struct
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from sp4dlib import __version__
from sp4dlib.rigs.gltf_file import BINARY_CHUNK, HEADER, JSON_CHUNK, WRAPS, unique
from sp4dlib.rigs.rig import PATHS, Animation, Appearance, Material, Rig, RigError, Track, compose

log = logging.getLogger(__name__)

TYPES = {(): "SCALAR", (2,): "VEC2", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}
CODES = {"u1": 5121, "u2": 5123, "u4": 5125, "f4": 5126}
VERTEX_DATA, INDEX_DATA = 34962, 34963
MAX_RUNS = 256


def save(rig: Rig, path: str | Path, max_influences: int | None = None) -> Path:
    """Write a rig as .glb: mesh, skin, animations with their original keys, materials and textures.

    Every joint is written, weightless ones too, so that a saved rig loads with the same joints in the same order.
    Vertices keep their order; faces do too, unless materials alternate in more than 256 runs, which are then sorted.
    Numbers are stored as 32-bit floats.

    Parameters
    ----------
    rig : Rig
    path : str or Path
        Ends in ``.glb``. Written whole: to a temporary file first, then renamed.
    max_influences : int or None
        Keep only the strongest so many joints of each vertex, renormalised. None keeps all, in as many sets of four
        (``JOINTS_0``, ``JOINTS_1``, ...) as it takes; strongest first, as many viewers read only the first set.

    Returns
    -------
    Path

    Raises
    ------
    RigError
        If the rig has no faces, the name does not end in .glb, or animations differ in ``before``.
    """
    path = Path(path)
    if path.suffix.lower() != ".glb":
        raise RigError(f"{path}: rigs are written as binary glTF; give a name that ends in .glb")
    if not len(rig.faces):
        raise RigError(f"{rig.name} has no faces, and glTF allows no empty mesh; nothing was written to {path}")
    if max_influences is not None and max_influences < 1:
        raise ValueError(f"max_influences must be at least 1, or None for all; got {max_influences}")
    content = _Writer(rig, max_influences).glb()
    handle, scratch = tempfile.mkstemp(prefix=f".{path.name}", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(scratch, 0o666 & ~umask)       # mkstemp's files are private, an exported file is not
        os.replace(scratch, path)
    except BaseException:
        os.unlink(scratch)
        raise
    return path


class _Writer:
    def __init__(self, rig: Rig, max_influences: int | None) -> None:
        self.rig = rig
        self.binary = bytearray()
        self.json: dict = {"asset": {"version": "2.0", "generator": f"sp4dlib {__version__}"}, "scene": 0,
                           "bufferViews": [], "accessors": []}
        self._stored: dict[tuple, int] = {}
        self._nodes()
        self._mesh(max_influences)
        self._animations()

    def glb(self) -> bytes:
        self.json["buffers"] = [{"byteLength": len(self.binary)}]
        text = json.dumps({k: v for k, v in self.json.items() if v != []}, separators=(",", ":"), allow_nan=False)
        text = text.encode("utf-8")
        text += b" " * (-len(text) % 4)
        binary = bytes(self.binary) + b"\0" * (-len(self.binary) % 4)
        return b"".join([struct.pack("<3I", HEADER, 2, 28 + len(text) + len(binary)),
                         struct.pack("<2I", len(text), JSON_CHUNK), text,
                         struct.pack("<2I", len(binary), BINARY_CHUNK), binary])

    def _view(self, content: bytes, target: int | None = None) -> int:
        self.binary += b"\0" * (-len(self.binary) % 4)
        view = {"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(content)}
        self.json["bufferViews"].append(view if target is None else {**view, "target": target})
        self.binary += content
        return len(self.json["bufferViews"]) - 1

    def _accessor(self, values: np.ndarray, dtype: str, target: int | None = None, bounds: bool = False) -> int:
        """Store ``values`` (count, ...); equal arrays are stored once."""
        values = np.ascontiguousarray(values, f"<{dtype}")
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise RigError(f"{self.rig.name} holds values that are not finite 32-bit floats; it cannot be saved")
        shape = values.shape[1:]
        content = (values.swapaxes(1, 2) if shape == (4, 4) else values).tobytes()      # matrices go by columns
        key = (dtype, values.shape, target, bounds, content)
        if key not in self._stored:
            entry = {"bufferView": self._view(content, target), "componentType": CODES[dtype], "count": len(values),
                     "type": TYPES[shape]}
            if bounds:
                low, high = values.min(0), values.max(0)
                entry.update(min=np.atleast_1d(low).tolist(), max=np.atleast_1d(high).tolist())
            self.json["accessors"].append(entry)
            self._stored[key] = len(self.json["accessors"]) - 1
        return self._stored[key]

    def _nodes(self) -> None:
        """Node 0 is the skinned mesh at the scene's root; joints follow, each under its constant matrix, if any."""
        skeleton = self.rig.skeleton
        self.default = _default_pose(self.rig)
        nodes = [{"name": self.rig.name, "mesh": 0, "skin": 0}]
        self.joint_nodes, roots = [], [0]
        names = unique(skeleton.names)
        for j, parent in enumerate(skeleton.parents):
            siblings = roots if parent < 0 else nodes[self.joint_nodes[parent]].setdefault("children", [])
            if self.default.before is not None and not np.array_equal(self.default.before[j], np.eye(4)):
                siblings.append(len(nodes))
                nodes.append({"name": f"{names[j]} (fixed)", "matrix": self.default.before[j].T.ravel().tolist()})
                siblings = nodes[-1].setdefault("children", [])
            siblings.append(len(nodes))
            self.joint_nodes.append(len(nodes))
            rotation = self.default.rotation[j] / np.linalg.norm(self.default.rotation[j])
            nodes.append({"name": names[j], "translation": self.default.translation[j].tolist(),
                          "rotation": rotation.tolist(), "scale": self.default.scale[j].tolist()})
        self.json.update(nodes=nodes, scenes=[{"nodes": roots}])
        inverse = np.linalg.inv(skeleton.bind)
        inverse[:, 3] = [0, 0, 0, 1]
        self.json["skins"] = [{"joints": self.joint_nodes, "skeleton": self.joint_nodes[0],
                               "inverseBindMatrices": self._accessor(inverse, "f4")}]

    def _mesh(self, max_influences: int | None) -> None:
        rig = self.rig
        look = rig.appearance or Appearance((Material(),), np.zeros(len(rig.faces), np.int64))
        attributes = {"POSITION": self._accessor(rig.vertices, "f4", VERTEX_DATA, bounds=True),
                      "NORMAL": self._accessor(_normals(rig.vertices, rig.faces), "f4", VERTEX_DATA)}
        for i, (joints, weights) in enumerate(_influences(rig.weights, max_influences)):
            dtype = "u1" if len(rig.skeleton) <= 256 else "u2"
            attributes[f"JOINTS_{i}"] = self._accessor(joints, dtype, VERTEX_DATA)
            attributes[f"WEIGHTS_{i}"] = self._accessor(weights, "f4", VERTEX_DATA)
        if look.uv is not None:
            attributes["TEXCOORD_0"] = self._accessor(look.uv, "f4", VERTEX_DATA)
        if look.vertex_colors is not None:
            attributes["COLOR_0"] = self._accessor(np.clip(look.vertex_colors, 0, 1), "f4", VERTEX_DATA)
        primitives = []
        for material, faces in _runs(np.asarray(look.face_material), rig.faces):
            index = self._accessor(faces.ravel(), "u4" if len(rig.vertices) > 65535 else "u2", INDEX_DATA)
            primitives.append({"attributes": attributes, "indices": index, "material": material})
        self.json["meshes"] = [{"name": rig.name, "primitives": primitives}]
        self.json.update(materials=[], textures=[], images=[], samplers=[])
        self._images: dict[int, int] = {}
        for material in look.materials:
            self.json["materials"].append(self._material(material, look.uv is not None))

    def _material(self, material: Material, has_uv: bool) -> dict:
        surface: dict = {"baseColorFactor": list(map(float, material.base_color)), "metallicFactor": 0.0,
                         "roughnessFactor": 1.0}
        if material.texture is not None and not has_uv:
            log.warning("%s: material %r has a texture but the mesh has no uv; the texture is left out", self.rig.name,
                        material.name)
        elif material.texture is not None:
            surface["baseColorTexture"] = {"index": self._texture(material)}
        entry = {"name": material.name, "pbrMetallicRoughness": surface, "alphaMode": material.alpha_mode,
                 "doubleSided": bool(material.double_sided)}
        return {**entry, "alphaCutoff": float(material.alpha_cutoff)} if material.alpha_mode == "MASK" else entry

    def _texture(self, material: Material) -> int:
        """Index of a material's texture; materials often share one, or its image."""
        if id(material.texture) not in self._images:
            self._images[id(material.texture)] = len(self.json["images"])
            view = self._view(_png(material.texture))
            self.json["images"].append({"bufferView": view, "mimeType": "image/png"})
        entry = {"source": self._images[id(material.texture)]}
        if material.wrap != ("REPEAT", "REPEAT"):
            sampler = {"wrapS": WRAPS[material.wrap[0]], "wrapT": WRAPS[material.wrap[1]]}
            entry["sampler"] = _place(self.json["samplers"], sampler)
        return _place(self.json["textures"], entry)

    def _animations(self) -> None:
        written = []
        for animation in self.rig.animations:
            if animation is self.default:
                continue
            samplers, channels = [], []
            for track in _all_tracks(animation, self.default):
                times, values = _keys(track)
                count = values.shape[0] * (3 if track.interpolation == "CUBICSPLINE" else 1)
                samplers.append({"input": self._accessor(times, "f4", bounds=True),
                                 "output": self._accessor(values.reshape(count, -1), "f4"),
                                 "interpolation": track.interpolation})
                target = {"node": self.joint_nodes[track.joint], "path": track.path}
                channels.append({"sampler": len(samplers) - 1, "target": target})
            written.append({"name": animation.name, "samplers": samplers, "channels": channels})
        self.json["animations"] = written


def _place(entries: list[dict], entry: dict) -> int:
    """Index of an entry, which is added if there is none like it."""
    if entry not in entries:
        entries.append(entry)
    return entries.index(entry)


def _default_pose(rig: Rig) -> Animation:
    """What the nodes say when nothing is animated: the pose ``rest``, else the bind pose.

    The root must stand as at bind, for from it a reader takes where the bind pose lies; a ``rest`` that moves the root
    is therefore written like any other animation.
    """
    before = [a.before if a.before is not None else np.eye(4) for a in rig.animations]
    if any(not np.allclose(b, before[0], rtol=1e-9, atol=1e-12) for b in before):
        raise RigError(f"{rig.name}: animations differ in `before`, and a glTF node has one; give all the same")
    unit = np.array([[1, 1, 1, rig.size]] * 3)

    def stands(animation: Animation, joints: slice) -> bool:
        world = rig.joint_transforms(replace(animation, tracks=()), [0])[0]
        return bool(np.abs((world - rig.skeleton.bind)[joints, :3] / unit).max() < 1e-6 * max(1, np.abs(world).max()))

    for animation in rig.animations:
        still = not animation.tracks and animation.duration == 0
        if animation.name == "rest" and still and stands(animation, slice(1)):
            return animation
    for animation in rig.animations:
        if stands(animation, slice(None)):
            return replace(animation, tracks=())
    return _decompose(rig, rig.animations[0].before if rig.animations else None)


def _decompose(rig: Rig, before: np.ndarray | None) -> Animation:
    """The bind pose as translations, rotations and scales."""
    from scipy.spatial.transform import Rotation

    bind, parents = rig.skeleton.bind, rig.skeleton.parents
    above = np.where((parents >= 0)[:, None, None], bind[parents], np.eye(4))
    local = np.linalg.inv(above if before is None else above @ before) @ bind
    scale = np.linalg.norm(local[:, :3, :3], axis=1)
    scale[:, 0] *= np.sign(np.linalg.det(local[:, :3, :3]))
    rotation = Rotation.from_matrix(local[:, :3, :3] / scale[:, None]).as_quat()
    pose = Animation("bind", 0.0, local[:, :3, 3], rotation, scale, before=before)
    error = np.abs(compose(pose.translation, rotation, scale) - local).max(axis=(1, 2)) / scale.max(axis=1)
    if error.max() > 1e-4:
        log.warning("%s: the bind pose of joint %r is sheared, which glTF nodes cannot say; the default pose is only "
                    "near it", rig.name, rig.skeleton.names[int(error.argmax())])
    return pose


def _all_tracks(animation: Animation, default: Animation) -> list[Track]:
    """An animation's tracks, and constant ones where it differs from the nodes; together they last its duration."""
    tracks = list(animation.tracks)
    moved = {(t.joint, t.path) for t in tracks}
    for path in PATHS:
        mine, nodes = getattr(animation, path), getattr(default, path)
        for j in np.flatnonzero(np.any(mine != nodes, axis=1)):
            if (j, path) not in moved:
                tracks.append(Track(int(j), path, np.zeros(1), mine[[j]]))
    if not tracks:
        tracks.append(Track(0, "rotation", np.zeros(1), animation.rotation[:1]))
    if animation.duration > max(t.times[-1] for t in tracks):
        last = tracks[0]
        values = last.values
        if last.interpolation == "CUBICSPLINE":     # flat from the last key on
            values = values.copy()
            values[-1, 2] = 0
            held = np.stack([np.zeros_like(values[-1, 1]), values[-1, 1], np.zeros_like(values[-1, 1])])
        else:
            held = values[-1]
        tracks[0] = Track(last.joint, last.path, np.append(last.times, animation.duration),
                          np.concatenate([values, held[None]]), last.interpolation)
    return tracks


def _keys(track: Track) -> tuple[np.ndarray, np.ndarray]:
    """Times that still increase as 32-bit floats, and their values; of equal times the last counts."""
    times, values = np.asarray(track.times, np.float32), np.asarray(track.values, np.float64)
    keep = np.append(np.diff(times) > 0, True)
    times, values = times[keep], values[keep]
    if track.path == "rotation" and track.interpolation != "CUBICSPLINE":
        values = values / np.linalg.norm(values, axis=1, keepdims=True)
    return times, values


def _influences(weights: np.ndarray, limit: int | None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Joints and weights in sets of four, strongest first; unused places are joint 0 with weight 0."""
    most = int((weights > 0).sum(1).max())
    kept = min(most, limit or most)
    order = np.argsort(-weights, axis=1, kind="stable")[:, :kept]
    strength = np.take_along_axis(weights, order, 1)
    strength = strength / strength.sum(1, keepdims=True)
    order = np.where(strength.astype(np.float32) > 0, order, 0)
    padding = ((0, 0), (0, -kept % 4))
    order, strength = np.pad(order, padding), np.pad(strength, padding)
    return [(order[:, i:i + 4], strength[:, i:i + 4]) for i in range(0, order.shape[1], 4)]


def _runs(face_material: np.ndarray, faces: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Faces by material: runs of one material, or, if there were too many, one group for each material."""
    starts = np.flatnonzero(np.diff(face_material, prepend=face_material[0] - 1))
    if len(starts) > MAX_RUNS:
        order = np.argsort(face_material, kind="stable")
        face_material, faces = face_material[order], faces[order]
        starts = np.flatnonzero(np.diff(face_material, prepend=face_material[0] - 1))
    return [(int(face_material[start]), part) for start, part in zip(starts, np.split(faces, starts[1:]))]


def _normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit vertex normals, weighted by area; up where a vertex has no face."""
    corners = vertices[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    out = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(out, faces[:, k], normal)
    length = np.linalg.norm(out, axis=1, keepdims=True)
    return np.where(length > 0, out / np.where(length > 0, length, 1), [0.0, 1.0, 0.0])


def _png(texture: np.ndarray) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.asarray(texture, np.uint8)).save(stream, "PNG")
    return stream.getvalue()
