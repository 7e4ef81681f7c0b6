"""Pictures of a posed mesh: antialiased colour, and the exact part id of every pixel."""

from __future__ import annotations

import logging
import os
from functools import lru_cache

import numpy as np

from sp4dlib.clips.cameras import Cameras
from sp4dlib.clips.scene import Shading, make_scene
from sp4dlib.rigs.rig import Appearance

ENGINES = ("auto", "gl", "embree")
BACKGROUND = -1
LARGEST = 4096                # pixels of an image side; colour is drawn at twice that
CHUNK = 32                    # frames that are shaded and uploaded at once: bounds memory, not results

log = logging.getLogger(__name__)


class NoOpenGL(RuntimeError):
    """No OpenGL context can be made in this process."""


def render(vertices: np.ndarray, faces: np.ndarray, labels: np.ndarray, cameras: Cameras,
           appearance: Appearance | None = None, *, shading: Shading | None = None, rest: np.ndarray | None = None,
           engine: str = "auto") -> tuple[np.ndarray, np.ndarray]:
    """Draw T poses from V cameras.

    Ids are sampled at pixel centres and never blended: the id is the label with the largest share in the
    interpolated one-hot labels at the visible point (perspective-correct barycentric coordinates), so in a triangle
    labelled a, a, b it is b where the barycentric coordinate of b exceeds 1/2. Texels that a ``MASK`` material cuts
    out are holes; ``BLEND`` is drawn opaque, with holes where alpha is below 1/2. Backs of single-sided materials are
    left out where the surface is closed. Colour is base colour (factor x texture x vertex colour) under soft lights
    (:class:`~sp4dlib.clips.scene.Shading`), the mean in sRGB of four samples a pixel.

    Parameters
    ----------
    vertices : ndarray, shape (T, N, 3)
        Posed vertices in rig space.
    faces : ndarray of int, shape (F, 3)
    labels : ndarray of int, shape (N,)
        Part of each vertex, 0 to 32766.
    cameras : Cameras
    appearance : Appearance, optional
        Plain grey without it.
    shading : Shading, optional
    rest : ndarray, shape (N, 3), optional
        Pose in which seams are told from edges; frame 0 by default.
    engine : {"auto", "gl", "embree"}
        ``auto`` is OpenGL, or embree where no OpenGL can be had; ``SP4D_RENDERER=gl|embree`` decides in its place.

    Returns
    -------
    rgb : ndarray of uint8, shape (T, V, H, W, 3)
        White background.
    ids : ndarray of int16, shape (T, V, H, W)
        -1 is background.

    Raises
    ------
    ValueError
        If the arrays do not fit together or hold values that cannot be drawn.
    NoOpenGL
        If ``gl`` was asked for and cannot be had.
    """
    vertices, faces, labels = _checked(vertices, faces, labels, cameras, appearance)
    draw = _engine(engine).draw
    frames, size = len(vertices), cameras.size
    rgb = np.empty((frames, len(cameras), size, size, 3), np.uint8)
    ids = np.empty((frames, len(cameras), size, size), np.int16)
    rest = vertices[0] if rest is None else np.asarray(rest, np.float64)
    for start in range(0, frames, CHUNK):
        chunk = slice(start, start + CHUNK)
        scene = make_scene(vertices[chunk], faces, labels, cameras, appearance, shading or Shading(), rest)
        draw(scene, cameras, rgb[chunk], ids[chunk])
    return rgb, ids


def render_surface(vertices: np.ndarray, faces: np.ndarray, cameras: Cameras, appearance: Appearance | None = None, *,
                   rest: np.ndarray | None = None, engine: str = "auto") -> tuple[np.ndarray, np.ndarray]:
    """Depth and normals of the surface whose ids :func:`render` gives; arguments and errors as there.

    Returns
    -------
    depth : ndarray of float32, shape (T, V, H, W)
        Distance along the camera's axis, in unit-cube lengths, at the pixel's centre; infinite at the background.
    normals : ndarray of float32, shape (T, V, H, W, 3)
        Unit vectors in the view's axes (x right, y up, z towards the camera), smooth where shading is smooth, on the
        side that is seen; zero at the background.
    """
    labels = np.zeros(np.shape(vertices)[1] if np.ndim(vertices) == 3 else 0, np.int64)
    vertices, faces, labels = _checked(vertices, faces, labels, cameras, appearance)
    draw = _engine(engine).draw_surface
    surface = np.empty((len(vertices), len(cameras), cameras.size, cameras.size, 4), np.float32)
    rest = vertices[0] if rest is None else np.asarray(rest, np.float64)
    for start in range(0, len(vertices), CHUNK):
        chunk = slice(start, start + CHUNK)
        draw(make_scene(vertices[chunk], faces, labels, cameras, appearance, Shading(), rest), cameras, surface[chunk])
    depth = np.where(surface[..., 3] > 0, surface[..., 3], np.float32(np.inf))
    return depth, np.ascontiguousarray(surface[..., :3])


def _checked(vertices, faces, labels, cameras, appearance):
    vertices, faces, labels = np.asarray(vertices, np.float64), np.asarray(faces), np.asarray(labels)
    if vertices.ndim != 3 or vertices.shape[2] != 3 or not vertices.size:
        raise ValueError(f"vertices must be (T, N, 3) with at least one frame and one vertex; got {vertices.shape}")
    if not np.isfinite(vertices).all():
        raise ValueError("vertices hold NaN or infinity: the pose cannot be drawn")
    count = vertices.shape[1]
    if faces.ndim != 2 or faces.shape[1] != 3 or not np.issubdtype(faces.dtype, np.integer):
        raise ValueError(f"faces must be integers of shape (F, 3); got {faces.dtype} {faces.shape}")
    if not len(faces):
        raise ValueError("the mesh has no faces to draw")
    if faces.min() < 0 or faces.max() >= count:
        raise ValueError(f"a face names a vertex outside 0..{count - 1}")
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be one integer for each of {count} vertices; got {labels.dtype} {labels.shape}")
    if labels.min() < 0 or labels.max() >= np.iinfo(np.int16).max:
        raise ValueError(f"labels must lie in 0..32766; got {labels.min()}..{labels.max()}")
    if appearance is not None:
        material = np.asarray(appearance.face_material)
        if material.shape != (len(faces),) or material.min() < 0 or material.max() >= len(appearance.materials):
            raise ValueError(f"face_material must name one of {len(appearance.materials)} materials for each of "
                             f"{len(faces)} faces")
        for name, width in (("uv", 2), ("vertex_colors", 4)):
            array = getattr(appearance, name)
            if array is not None and np.shape(array) != (count, width):
                raise ValueError(f"{name} must be ({count}, {width}); got {np.shape(array)}")
    if int(cameras.size) != cameras.size or not 1 <= cameras.size <= LARGEST:
        raise ValueError(f"the image size must be a whole number of pixels, 1 to {LARGEST}; got {cameras.size}")
    return vertices, faces.astype(np.int64), labels.astype(np.int64)


def _engine(name: str):
    """The module of an engine, imported only when it is wanted."""
    forced = os.environ.get("SP4D_RENDERER")
    if forced:
        if forced not in ENGINES[1:]:
            raise ValueError(f"SP4D_RENDERER is {forced!r}; set it to gl or embree, or unset it")
        name = forced if name == "auto" else name
    if name not in ENGINES:
        raise ValueError(f"engine is one of {', '.join(ENGINES)}; got {name!r}")
    if name != "embree":
        from sp4dlib.clips import gl

        try:
            gl.device()
            return gl
        except NoOpenGL as error:
            if name == "gl":
                raise
            _log_fallback(str(error))
    from sp4dlib.clips import rays

    return rays


@lru_cache
def _log_fallback(reason: str) -> None:
    log.warning("drawing with embree, which is slower: %s", reason)
