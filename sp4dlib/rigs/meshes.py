"""Meshes without a rig, from any format that trimesh reads."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from sp4dlib.rigs.rig import Appearance, Material, Mesh, RigError

log = logging.getLogger(__name__)

GREY = (0.8, 0.8, 0.8, 1.0)


def load_mesh(path: str | Path) -> Mesh:
    """Read a surface with its materials: glTF, OBJ, PLY, STL, OFF, 3MF and whatever else trimesh reads.

    All pieces of the file, in their places, become one mesh. Vertices that a face uses are kept as they are, so that
    texture coordinates stay; what rigs the mesh welds copies of one position by itself. A skin in the file is not
    read (:func:`sp4dlib.rigs.load` does).

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    Mesh
        Without an appearance if the file has neither colours nor materials.

    Raises
    ------
    RigError
        If the file is missing, cannot be read, has no triangles, or holds numbers that are not finite.
    """
    import trimesh

    path = Path(path)
    if not path.is_file():
        raise RigError(f"{path}: there is no such file")
    if path.suffix.lower().lstrip(".") not in trimesh.available_formats():
        raise RigError(f"{path}: meshes of this kind cannot be read; save it as .glb, .obj, .ply or .stl")
    try:
        scene = trimesh.load_scene(path, process=False, maintain_order=True)
        pieces = [piece for piece in scene.dump() if isinstance(piece, trimesh.Trimesh) and len(piece.faces)]
        for piece in pieces:
            piece.remove_unreferenced_vertices()    # a glTF piece brings the vertices of its neighbours along
    except Exception as error:      # trimesh's readers raise whatever their parsers do
        raise RigError(f"{path}: cannot be read as a mesh ({type(error).__name__}: {error}); open it in a 3D program "
                       "and save it again") from error
    if not pieces:
        raise RigError(f"{path}: holds no triangles; points and lines cannot be rigged")
    vertices = np.concatenate([np.asarray(piece.vertices, np.float64) for piece in pieces])
    starts = np.cumsum([0, *(len(piece.vertices) for piece in pieces[:-1])])
    faces = np.concatenate([np.asarray(piece.faces, np.int64) + start for piece, start in zip(pieces, starts)])
    if not np.isfinite(vertices).all():
        raise RigError(f"{path}: {int((~np.isfinite(vertices).all(1)).sum())} vertices hold NaN or infinity; mend the "
                       "file")
    return Mesh(vertices, faces, _appearance(pieces, path), path.stem)


def _appearance(pieces: list, path: Path) -> Appearance | None:
    """Materials, texture coordinates and colours of all pieces, or None if no piece has any."""
    materials: list[Material] = []
    numbers: dict[int, int] = {}
    face_material, uvs, colors = [], [], []
    for piece in pieces:
        visual, count = piece.visual, len(piece.vertices)
        uv, color = np.zeros((count, 2)), np.ones((count, 4))
        if visual.kind == "texture" and getattr(visual, "uv", None) is not None and len(visual.uv) == count:
            # trimesh turns v upside down on reading, so that 0 is the bottom; glTF's 0 is the top.
            uv = np.stack([visual.uv[:, 0], 1 - visual.uv[:, 1]], axis=1)
        elif visual.kind in ("vertex", "face"):
            color = to_linear(np.asarray(visual.vertex_colors, np.float64) / 255)
        source = getattr(visual, "material", None)
        key = id(source)
        if key not in numbers:
            numbers[key] = len(materials)
            plain = GREY if source is not None or visual.kind is None else (1.0, 1.0, 1.0, 1.0)
            materials.append(_material(source, plain, path))
        face_material.append(np.full(len(piece.faces), numbers[key]))
        uvs.append(uv)
        colors.append(color)
    colors = np.concatenate(colors)
    if all(piece.visual.kind is None for piece in pieces):
        return None
    return Appearance(tuple(materials), np.concatenate(face_material),
                      np.concatenate(uvs) if any(m.texture is not None for m in materials) else None,
                      colors if (colors != 1).any() else None)


def _material(source, plain: tuple, path: Path) -> Material:
    """One of trimesh's materials as ours."""
    import trimesh

    if source is None:
        return Material("material", plain)
    name = str(getattr(source, "name", None) or "material")
    if isinstance(source, trimesh.visual.material.PBRMaterial):
        factor, image = source.baseColorFactor, source.baseColorTexture
        color = GREY if factor is None and image is None else (1.0,) * 4 if factor is None else factor
        color = np.asarray(color, np.float64)
        color = color / 255 if factor is not None and np.asarray(factor).dtype.kind in "iu" else color
        return Material(name, tuple(color.tolist()), _texture(image, path), source.alphaMode or "OPAQUE",
                        0.5 if source.alphaCutoff is None else float(source.alphaCutoff), bool(source.doubleSided))
    image = getattr(source, "image", None)
    color = np.asarray(source.main_color, np.float64) / 255          # sRGB, as OBJ's Kd is shown by most programs
    base = (1.0,) * 4 if image is not None else (*to_linear(color)[:3].tolist(), float(color[3]))
    return Material(name, base, _texture(image, path))


def _texture(image, path: Path) -> np.ndarray | None:
    if image is None:
        return None
    try:
        return np.asarray(image.convert("RGBA"))
    except (OSError, ValueError) as error:
        raise RigError(f"{path}: a texture cannot be decoded ({error}); save the mesh again") from error


def to_linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] to linear light, alpha (if there is any) unchanged (IEC 61966-2-1)."""
    srgb = np.asarray(srgb, np.float64)
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    if srgb.shape[-1:] == (4,):
        linear[..., 3] = srgb[..., 3]
    return linear
