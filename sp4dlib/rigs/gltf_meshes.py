"""Surfaces and materials of a glTF 2.0 file."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np

from sp4dlib.rigs.gltf_draco import DracoError, DracoMesh, decode
from sp4dlib.rigs.gltf_file import COMPONENTS, WRAPS, GltfFile, to_float
from sp4dlib.rigs.rig import Material, RigError

TRIANGLES, STRIP, FAN = 4, 5, 6
PRIMITIVE = 2**12       # what the smallest part costs: no file may hold, or repeat, tiny ones without end
DRACO = "KHR_draco_mesh_compression"
NAMES = {"joints": "JOINTS_0", "weights": "WEIGHTS_0", "uv": "TEXCOORDs", "colors": "COLOR_0"}


@dataclass(frozen=True)
class Surface:
    """Triangles over one set of vertices, as stored.

    Attributes
    ----------
    vertices : ndarray, shape (N, 3)
    faces : ndarray of int, shape (F, 3)
    materials : ndarray of int, shape (F,)
        Material of the file, -1 for none.
    joints, weights : ndarray, shape (N, 4 n), or None
        Indices into the skin's joints, and weights.
    uv : ndarray, shape (N, 2), or None
    colors : ndarray, shape (N, 4), or None
    """

    vertices: np.ndarray
    faces: np.ndarray
    materials: np.ndarray
    joints: np.ndarray | None
    weights: np.ndarray | None
    uv: np.ndarray | None
    colors: np.ndarray | None

    def moved(self, matrices: np.ndarray) -> Surface:
        """Vertices multiplied by one matrix each (N, 4, 4); a mirror image keeps its outside."""
        vertices = np.einsum("nab,nb->na", matrices[:, :3, :3], self.vertices) + matrices[:, :3, 3]
        mirrored = len(matrices) and np.linalg.det(matrices[0, :3, :3]) < 0
        return replace(self, vertices=vertices, faces=self.faces[:, ::-1] if mirrored else self.faces)


class MeshReader:
    """Reads the meshes of a file; Draco streams are decoded once, all together."""

    def __init__(self, file: GltfFile) -> None:
        self.file = file
        self._decoded: dict[int, DracoMesh] | None = None

    def surfaces(self, mesh: int) -> list[Surface]:
        """Surfaces of a mesh; primitives over the same vertices (equal attributes) become one."""
        groups: dict[tuple, list[dict]] = {}
        for primitive in self.file.item("meshes", mesh)["primitives"]:
            self.file.spend(PRIMITIVE, f"meshes[{mesh}]")
            if primitive.get("mode", TRIANGLES) not in (TRIANGLES, STRIP, FAN):
                self.file.note("points or lines are left out")
                continue
            if "POSITION" not in primitive["attributes"]:
                self.file.note("a part without positions is left out")
                continue
            if primitive.get("targets"):
                self.file.note("morph targets are left out")
            stream = primitive["extensions"][DRACO]["bufferView"] if _compressed(self.file, primitive) else None
            key = (*sorted(primitive["attributes"].items()), str(_texture_space(self.file, primitive)), stream)
            groups.setdefault(key, []).append(primitive)
        return [self._surface(group) for group in groups.values()]

    def _surface(self, primitives: list[dict]) -> Surface:
        file, first = self.file, primitives[0]
        attributes = first["attributes"]
        decoded = self._draco(first) if _compressed(file, first) else None

        def read(name: str, raw: bool = False) -> np.ndarray:
            accessor, stored = attributes[name], first.get("extensions", {}).get(DRACO, {}).get("attributes", {})
            if decoded is None or name not in stored:
                values = file.accessor(accessor, raw)
            else:
                values = _from_stream(file, decoded, stored[name], accessor, raw)
            return values if values.ndim > 1 else values[:, None]

        vertices = read("POSITION")
        if vertices.shape[1] != 3:
            raise file.damaged(f"positions of a mesh have {vertices.shape[1]} coordinates")
        faces = [_triangles(file, p, len(vertices)) if decoded is None else decoded.faces for p in primitives]
        faces = [_within(file, f, len(vertices)) for f in faces]
        materials = np.concatenate([np.full(len(f), p.get("material", -1)) for f, p in zip(faces, primitives)])
        sets = [i for i in range(len(attributes)) if f"JOINTS_{i}" in attributes and f"WEIGHTS_{i}" in attributes]
        found: dict[str, np.ndarray | None] = dict.fromkeys(NAMES)
        if sets:
            found["joints"] = np.concatenate([_indices(file, read(f"JOINTS_{i}", raw=True)) for i in sets], 1)
            found["weights"] = np.concatenate([read(f"WEIGHTS_{i}") for i in sets], 1)
        if "COLOR_0" in attributes:
            stored = read("COLOR_0")
            found["colors"] = np.ones((len(stored), 4))
            found["colors"][:, :stored.shape[1]] = np.clip(np.nan_to_num(stored, nan=1.0), 0, 1)
        which, transform = _texture_space(file, first)
        if f"TEXCOORD_{which}" in attributes:
            found["uv"] = _transformed(read(f"TEXCOORD_{which}"), transform)
        for name, values in found.items():
            if values is not None and len(values) != len(vertices):
                raise file.damaged(f"a mesh has {len(vertices)} positions and {len(values)} {NAMES[name]}")
        if sets and found["joints"].shape != found["weights"].shape:
            raise file.damaged("a mesh has another number of JOINTS_0 than of WEIGHTS_0")
        return Surface(vertices, np.concatenate(faces), materials, **found)

    def _draco(self, primitive: dict) -> DracoMesh:
        if self._decoded is None:
            self._decoded = self._decode_all()
        return self._decoded[primitive["extensions"][DRACO]["bufferView"]]

    def _decode_all(self) -> dict[int, DracoMesh]:
        file = self.file
        views = list(dict.fromkeys(p["extensions"][DRACO]["bufferView"] for mesh in file.items("meshes")
                                   for p in mesh["primitives"] if _compressed(file, p)))
        try:
            meshes = decode([file.view(view)[0].tobytes() for view in views])
        except DracoError as error:
            raise RigError(f"{file.path} needs Draco decompression, which failed: {error}; export it again without "
                           "Draco compression (for instance: import it in Blender, export with compression off)"
                           ) from error
        for view, mesh in zip(views, meshes):
            if isinstance(mesh, DracoError):
                raise file.damaged(f"the Draco stream in bufferViews[{view}] cannot be decoded ({mesh})")
            file.spend(8 * (mesh.faces.size + sum(a.size for a in mesh.attributes.values())), f"bufferViews[{view}]")
        return dict(zip(views, meshes))


def _compressed(file: GltfFile, primitive: dict) -> bool:
    """Whether a primitive is there as a Draco stream only; some files hold it uncompressed as well."""
    return (DRACO in primitive.get("extensions", {})
            and "bufferView" not in file.item("accessors", primitive["attributes"]["POSITION"]))


def _from_stream(file: GltfFile, decoded: DracoMesh, stored: int, accessor: int, raw: bool) -> np.ndarray:
    """An attribute of a Draco stream, as the accessor that stands for it says it is to be understood."""
    if stored not in decoded.attributes:
        raise file.damaged(f"a Draco stream has no attribute {stored!r:.40}")
    entry, values = file.item("accessors", accessor), decoded.attributes[stored]
    if raw or values.dtype.kind == "f":
        return values if raw else values.astype(np.float64)
    if entry["componentType"] not in COMPONENTS:
        raise file.damaged(f"accessors[{accessor}] has component type {entry['componentType']}")
    return to_float(values.astype(COMPONENTS[entry["componentType"]]), entry.get("normalized", False))


def _indices(file: GltfFile, values: np.ndarray) -> np.ndarray:
    if not (np.isfinite(values).all() and np.all((values >= 0) & (values < 2**31))):
        raise file.damaged("a JOINTS attribute holds numbers that are no indices")
    return values.astype(np.int64)


def _within(file: GltfFile, faces: np.ndarray, count: int) -> np.ndarray:
    if len(faces) and (faces.max() >= count or faces.min() < 0):
        raise file.damaged(f"a face names vertex {faces.max() if faces.min() >= 0 else faces.min()} of {count}")
    return faces


def _triangles(file: GltfFile, primitive: dict, count: int) -> np.ndarray:
    """Faces (F, 3) of a list, strip or fan of triangles (glTF 2.0, 3.7.2.1)."""
    index = np.arange(count)
    if "indices" in primitive:
        index = file.accessor(primitive["indices"], raw=True)
        if index.ndim > 1 or index.dtype.kind not in "iu":
            raise file.damaged("the indices of a mesh are no whole numbers")
        index = index.astype(np.int64)
    mode = primitive.get("mode", TRIANGLES)
    if mode == TRIANGLES:
        return index[:len(index) // 3 * 3].reshape(-1, 3)
    i = np.arange(max(len(index) - 2, 0))
    if mode == STRIP:
        return np.stack([index[i], index[i + 1 + i % 2], index[i + 2 - i % 2]], 1)
    return np.stack([index[i + 1], index[i + 2], np.repeat(index[:1], len(i))], 1)


def _base_texture(file: GltfFile, material: int) -> dict | None:
    """The texture reference of a material's base colour."""
    if material == -1:
        return None
    entry = file.item("materials", material)
    gloss = entry.get("extensions", {}).get("KHR_materials_pbrSpecularGlossiness", {})
    return entry.get("pbrMetallicRoughness", {}).get("baseColorTexture") or gloss.get("diffuseTexture")


def _texture_space(file: GltfFile, primitive: dict) -> tuple[int, dict]:
    """Which TEXCOORD a primitive's base colour uses, and its KHR_texture_transform."""
    reference = _base_texture(file, primitive.get("material", -1)) or {}
    transform = reference.get("extensions", {}).get("KHR_texture_transform", {})
    return transform.get("texCoord", reference.get("texCoord", 0)), transform


def _transformed(uv: np.ndarray, transform: dict) -> np.ndarray:
    """``u' = offset + R scale u`` (KHR_texture_transform); what is not finite becomes 0."""
    uv = np.nan_to_num(uv[:, :2], posinf=0.0, neginf=0.0)
    if not transform:
        return uv
    angle = transform.get("rotation", 0.0)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return (uv * transform.get("scale", [1, 1])) @ turn.T + transform.get("offset", [0, 0])


def read_materials(file: GltfFile, used: np.ndarray) -> tuple[tuple[Material, ...], np.ndarray]:
    """Materials in use, and for each entry of ``used`` (F,), -1 for none, its index among them."""
    indices, face_material = np.unique(used, return_inverse=True)
    images: dict[int, np.ndarray] = {}
    return tuple(_material(file, int(i), images) for i in indices), face_material


def _material(file: GltfFile, index: int, images: dict[int, np.ndarray]) -> Material:
    if index < 0:
        return Material("default", (1.0, 1.0, 1.0, 1.0), double_sided=False)        # glTF's own default is white
    entry = file.item("materials", index)
    gloss = entry.get("extensions", {}).get("KHR_materials_pbrSpecularGlossiness", {})
    factor = entry.get("pbrMetallicRoughness", {}).get("baseColorFactor") or gloss.get("diffuseFactor") or (1, 1, 1, 1)
    factor = np.array(factor, np.float64)
    mode, cutoff = entry.get("alphaMode", "OPAQUE"), float(entry.get("alphaCutoff", 0.5))
    if factor.shape != (4,) or not np.isfinite([*factor, cutoff]).all() or mode not in ("OPAQUE", "MASK", "BLEND"):
        raise file.damaged(f"materials[{index}] has base colour {factor.tolist()}, alpha mode {mode!r:.20} and cut-off "
                           f"{cutoff}")
    texture, wrap = _texture(file, index, images)
    return Material(str(entry.get("name") or f"material_{index}"), tuple(np.clip(factor, 0, 1).tolist()), texture, mode,
                    cutoff, bool(entry.get("doubleSided", False)), wrap)


def _texture(file: GltfFile, material: int, images: dict[int, np.ndarray]) -> tuple[np.ndarray | None, tuple[str, str]]:
    """The image of a material's base colour, and how it wraps; images that several materials share are read once."""
    reference = _base_texture(file, material)
    if reference is None:
        return None, ("REPEAT", "REPEAT")
    entry = file.item("textures", reference["index"])
    sampler = file.item("samplers", entry["sampler"]) if "sampler" in entry else {}
    named = {code: name for name, code in WRAPS.items()}
    wrap = tuple(named.get(sampler.get(side, 10497), "REPEAT") for side in ("wrapS", "wrapT"))
    image = entry.get("extensions", {}).get("EXT_texture_webp", {}).get("source", entry.get("source"))
    if image is None:
        file.note(f"the texture of material {material} is in a format that cannot be read; left out", logging.WARNING)
        return None, wrap
    if image not in images:
        images[image] = file.image(image)
    return images[image], wrap
