"""Surfaces and materials of a glTF 2.0 file."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np

from sp4dlib.rigs.gltf_file import GltfFile
from sp4dlib.rigs.rig import Material

log = logging.getLogger(__name__)

TRIANGLES, STRIP, FAN = 4, 5, 6


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


def read_surfaces(file: GltfFile, mesh: int) -> list[Surface]:
    """Surfaces of a mesh; primitives over the same vertices (equal attributes) become one."""
    groups: dict[tuple, list[dict]] = {}
    for primitive in file.item("meshes", mesh)["primitives"]:
        mode = primitive.get("mode", TRIANGLES)
        if mode not in (TRIANGLES, STRIP, FAN):
            log.info("%s: points or lines of meshes[%d] are left out", file.path.name, mesh)
            continue
        if "POSITION" not in primitive["attributes"]:
            log.info("%s: a part of meshes[%d] without positions is left out", file.path.name, mesh)
            continue
        if primitive.get("targets"):
            log.info("%s: morph targets of meshes[%d] are left out", file.path.name, mesh)
        _, transform = _base_texture(file, primitive.get("material", -1))
        key = (*sorted(primitive["attributes"].items()), str(transform))
        groups.setdefault(key, []).append(primitive)
    return [_surface(file, group) for group in groups.values()]


def _surface(file: GltfFile, primitives: list[dict]) -> Surface:
    attributes = primitives[0]["attributes"]
    vertices = file.accessor(attributes["POSITION"])
    for name, accessor in attributes.items():
        if file.item("accessors", accessor)["count"] != len(vertices):
            raise file.damaged(f"a mesh has {len(vertices)} positions and another number of {name}")
    faces = [_triangles(file, p, len(vertices)) for p in primitives]
    materials = np.concatenate([np.full(len(f), p.get("material", -1)) for f, p in zip(faces, primitives)])
    sets = [i for i in range(len(attributes)) if f"JOINTS_{i}" in attributes and f"WEIGHTS_{i}" in attributes]
    joints = weights = colors = None
    if sets:
        joints = np.concatenate([file.accessor(attributes[f"JOINTS_{i}"], raw=True) for i in sets], 1).astype(np.int64)
        weights = np.concatenate([file.accessor(attributes[f"WEIGHTS_{i}"]) for i in sets], 1)
    if "COLOR_0" in attributes:
        colors = np.ones((len(vertices), 4))
        stored = file.accessor(attributes["COLOR_0"])
        colors[:, :stored.shape[1]] = np.clip(stored, 0, 1)
    return Surface(vertices, np.concatenate(faces), materials, joints, weights,
                   _uv(file, attributes, primitives[0].get("material", -1)), colors)


def _triangles(file: GltfFile, primitive: dict, count: int) -> np.ndarray:
    """Faces (F, 3) of a list, strip or fan of triangles (glTF 2.0, 3.7.2.1)."""
    index = np.arange(count)
    if "indices" in primitive:
        index = file.accessor(primitive["indices"], raw=True).astype(np.int64)
    if len(index) and index.max() >= count:
        raise file.damaged(f"a face names vertex {index.max()} of {count}")
    mode = primitive.get("mode", TRIANGLES)
    if mode == TRIANGLES:
        return index[:len(index) // 3 * 3].reshape(-1, 3)
    i = np.arange(max(len(index) - 2, 0))
    if mode == STRIP:
        return np.stack([index[i], index[i + 1 + i % 2], index[i + 2 - i % 2]], 1)
    return np.stack([index[i + 1], index[i + 2], np.repeat(index[:1], len(i))], 1)


def _base_texture(file: GltfFile, material: int) -> tuple[dict | None, dict]:
    """The texture reference of a material's base colour, and its KHR_texture_transform."""
    if material < 0:
        return None, {}
    entry = file.item("materials", material)
    gloss = entry.get("extensions", {}).get("KHR_materials_pbrSpecularGlossiness", {})
    reference = entry.get("pbrMetallicRoughness", {}).get("baseColorTexture") or gloss.get("diffuseTexture")
    return reference, (reference or {}).get("extensions", {}).get("KHR_texture_transform", {})


def _uv(file: GltfFile, attributes: dict, material: int) -> np.ndarray | None:
    reference, transform = _base_texture(file, material)
    which = transform.get("texCoord", (reference or {}).get("texCoord", 0))
    if f"TEXCOORD_{which}" not in attributes:
        return None
    uv = file.accessor(attributes[f"TEXCOORD_{which}"])
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
    reference, _ = _base_texture(file, index)
    texture = None
    if reference is not None:
        source = file.item("textures", reference["index"])
        image = source.get("source", source.get("extensions", {}).get("EXT_texture_webp", {}).get("source"))
        if image is None:
            log.warning("%s: the texture of material %d is in a format that cannot be read; left out", file.path.name,
                        index)
        else:
            if image not in images:
                images[image] = file.image(image)
            texture = images[image]
    return Material(entry.get("name") or f"material_{index}", tuple(float(f) for f in factor), texture,
                    entry.get("alphaMode", "OPAQUE"), float(entry.get("alphaCutoff", 0.5)),
                    bool(entry.get("doubleSided", False)))
