"""Still pictures of meshes, parts, weights and skeletons, drawn by this library's own renderer."""

from __future__ import annotations

import numpy as np

from sp4dlib.clips import fit_cameras, render
from sp4dlib.rigs import Appearance, Material, Skeleton
from sp4dlib.show.style import id_colors

FINER = 2           # pixels drawn for each pixel shown, along a side: ids have hard edges
PALE = 0.55         # how far a mesh fades to white when a skeleton is drawn inside it
BONE = (20, 20, 20)


def still(mesh, labels=None, *, values=None, skeleton: Skeleton | None = None, joints=None, marked=(),
          azimuth: float = 40, elevation: float = 15, size: int = 320, box=None) -> np.ndarray:
    """Picture of a mesh in grey, in part colours, or in the colours of values, with its skeleton if wanted.

    Parameters
    ----------
    mesh : object with ``vertices`` (N, 3) and ``faces`` (F, 3)
    labels : array_like of int, shape (N,), optional
        Part of each vertex, 0 or more: the palette's colours.
    values : array_like, shape (N,), optional
        In [0, 1], on the colour map of :func:`sp4dlib.show.weights_viewer`; instead of labels.
    skeleton : Skeleton, optional
        Drawn over the mesh, which turns pale.
    joints : array_like, shape (J, 3), optional
        Where the joints are, by default at bind pose.
    marked : sequence of int
        Joints whose bone, from the parent, is drawn red.
    azimuth, elevation : float
        Of the camera, in degrees; 0, 0 looks from +z.
    size : int
        Pixels of an image side.
    box : array_like, shape (P, 3), optional
        Points that the camera is fitted to, by default the vertices: pictures of several poses share one camera.

    Returns
    -------
    ndarray of uint8, shape (size, size, 3)

    Raises
    ------
    ValueError
        If both labels and values are given, or the renderer refuses the arrays.
    """
    if labels is not None and values is not None:
        raise ValueError("a still shows labels or values, not both")
    vertices, faces = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces)
    ids = np.zeros(len(vertices), np.int64) if labels is None else np.asarray(labels)
    camera = fit_cameras(vertices if box is None else box, [azimuth], [elevation], FINER * size)
    paint = None if labels is None and values is None else _appearance(faces, len(vertices), values)
    rgb, shown = render(vertices[None], faces, ids, camera, paint)
    image, shown = rgb[0, 0].astype(np.float64), shown[0, 0]
    if labels is not None:          # colours by pixel, not by vertex, so that borders are as sharp as in part maps
        inside = shown >= 0
        image[inside] *= id_colors(int(ids.max()) + 1)[shown[inside]] / 255
    if skeleton is not None:
        image += PALE * (255 - image)
        image = _with_bones(image, skeleton, skeleton.joints if joints is None else np.asarray(joints), camera, marked)
    small = image.reshape(size, FINER, size, FINER, 3).mean((1, 3))
    return np.round(small).astype(np.uint8)


def _appearance(faces: np.ndarray, count: int, values) -> Appearance:
    """White, or the colours of values, on both sides of the surface."""
    from matplotlib import colormaps

    colors = np.ones((count, 4))
    if values is not None:
        srgb = colormaps["cividis"](np.clip(np.asarray(values, np.float64), 0, 1))[:, :3]
        colors[:, :3] = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    plain = Material("plain", (1.0, 1.0, 1.0, 1.0), double_sided=True)
    return Appearance((plain,), np.zeros(len(faces), np.int64), vertex_colors=colors)


def _with_bones(image: np.ndarray, skeleton: Skeleton, joints: np.ndarray, camera, marked) -> np.ndarray:
    """Lines from each joint to its parent, on a white rim, and dots at the joints."""
    from PIL import Image, ImageDraw

    places = [tuple(place) for place in camera.project(joints, 0)[0].tolist()]
    picture = Image.fromarray(np.round(image).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    thick = max(2, image.shape[0] // 110)
    bones = [(child, parent) for child, parent in enumerate(skeleton.parents.tolist()) if parent >= 0]
    for child, parent in bones:
        draw.line([places[parent], places[child]], fill=(255, 255, 255), width=2 * thick)
    for child, parent in bones:
        color = (204, 0, 0) if child in marked else BONE
        draw.line([places[parent], places[child]], fill=color, width=thick)
    for x, y in places:
        draw.ellipse([x - thick, y - thick, x + thick, y + thick], fill=(255, 255, 255), outline=BONE,
                     width=max(1, thick // 2))
    return np.asarray(picture, np.float64)
