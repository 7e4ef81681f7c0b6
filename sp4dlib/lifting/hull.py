"""A mesh where there is none: the visual hull of silhouettes, painted with what the views show."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates
from scipy.spatial import cKDTree

from sp4dlib.clips.cameras import Cameras
from sp4dlib.lifting.votes import ray_caster
from sp4dlib.rigs.meshes import to_linear
from sp4dlib.rigs.rig import Appearance, Material, Mesh

log = logging.getLogger(__name__)

RESOLUTION = 128    # cells of the grid along a side of the unit cube
MARGIN = 0.06       # the grid reaches so far beyond the unit cube, in its lengths: generated views sway
FACES = 20_000
CHUNK = 1 << 18     # grid points that are projected at once


def visual_hull(masks, cameras: Cameras, *, resolution: int = RESOLUTION, tolerance: int = 0, smooth: float = 0.7,
                faces: int | None = FACES, name: str = "hull") -> Mesh:
    """The largest body that has these silhouettes (Laurentini 1994, "The Visual Hull Concept").

    Each silhouette becomes a signed distance in pixels, positive inside. A point of space has the (tolerance + 1)-th
    smallest of the distances at its projections, and the surface lies where that is 0 (marching cubes): smoother than
    carving whole cells. Hollows that show in no outline are filled; that is what a hull is.

    Parameters
    ----------
    masks : array_like of bool, shape (V, H, H)
        True on the object.
    cameras : Cameras
        V cameras; views opposite to one another add little.
    resolution : int
        Cells along a side of the unit cube, 8 to 512.
    tolerance : int
        So many views may miss a point that the others show. Generated views do not quite agree, and with 0 every
        disagreement cuts a piece off.
    smooth : float
        Standard deviation of a Gaussian over the field, in cells; 0 is none.
    faces : int, optional
        Decimate to about so many triangles (quadric error; Garland and Heckbert 1997). None keeps all.
    name : str

    Returns
    -------
    Mesh
        In the space that ``cameras.normalize`` maps from; normals point outwards. Pieces below 1 % of the volume of
        the largest are left out.

    Raises
    ------
    ValueError
        If shapes do not fit, a silhouette is empty, or nothing is inside all of them.
    """
    from skimage.measure import marching_cubes

    masks = np.asarray(masks)
    if masks.ndim != 3 or masks.shape[1] != masks.shape[2] or len(masks) != len(cameras):
        raise ValueError(f"masks must be square silhouettes of {len(cameras)} views, shape (V, H, H); got "
                         f"{masks.shape}")
    masks = masks.astype(bool)
    empty = np.flatnonzero(~masks.any((1, 2)))
    if len(empty):
        raise ValueError(f"view {empty[0]} shows no object: its silhouette is empty; leave that view out")
    if not 8 <= resolution <= 512:
        raise ValueError(f"resolution is the number of cells along a side, 8 to 512; got {resolution}")
    if not 0 <= tolerance < len(masks):
        raise ValueError(f"tolerance is a number of views, 0 to {len(masks) - 1}; got {tolerance}")
    field, low, step = _field(masks, cameras.resized(masks.shape[1]), resolution, tolerance)
    if smooth:
        field = gaussian_filter(field, smooth)
    if not (field > 0).any():
        raise ValueError("no point lies inside all silhouettes: do masks and cameras belong together? Where views "
                         "disagree a little, raise tolerance")
    field = np.pad(field, 1, constant_values=min(float(field.min()), -1.0))   # a hull cut by the grid is closed there
    points, triangles, _, _ = marching_cubes(field, 0.0)
    points = low + (points - 1) * step
    inverse = np.linalg.inv(cameras.normalize)
    points = points @ inverse[:3, :3].T + inverse[:3, 3]
    points, triangles = _tidy(points, triangles, faces)
    log.info("visual hull of %d views: %d vertices, %d faces", len(masks), len(points), len(triangles))
    return Mesh(points, triangles, None, name)


def _field(masks: np.ndarray, cameras: Cameras, resolution: int, tolerance: int) -> tuple[np.ndarray, float, float]:
    """Signed distance to the hull in pixels on a grid of unit-cube points; lowest coordinate and step of the grid."""
    low, high = -0.5 - MARGIN, 0.5 + MARGIN
    count = int(np.ceil(resolution * (high - low))) + 1
    axis, step = np.linspace(low, high, count, retstep=True)
    distances = [distance_transform_edt(mask) - distance_transform_edt(~mask) for mask in masks]
    # Half a pixel off each side: the outline runs between the last pixel inside and the first outside.
    distances = [d - 0.5 * np.sign(d) for d in distances]
    rotations = [cameras.rotation(view) for view in range(len(masks))]
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    field = np.empty(len(grid), np.float32)
    for start in range(0, len(grid), CHUNK):
        points = grid[start:start + CHUNK]
        seen = np.empty((len(masks), len(points)), np.float32)
        for view, distance in enumerate(distances):
            x, y, z = (points @ rotations[view].T).T
            depth = cameras.distance - z
            column = cameras.focal * x / depth + cameras.size / 2 - 0.5
            row = -cameras.focal * y / depth + cameras.size / 2 - 0.5
            seen[view] = map_coordinates(distance, [row, column], order=1, mode="nearest")
            outside = (column < -0.5) | (row < -0.5) | (column > cameras.size - 0.5) | (row > cameras.size - 0.5)
            seen[view, outside] = np.minimum(seen[view, outside], -1)
        field[start:start + CHUNK] = np.partition(seen, tolerance, axis=0)[tolerance]
    return field.reshape(count, count, count), low, step


def _tidy(points: np.ndarray, triangles: np.ndarray, faces: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Drop crumbs, decimate, turn outwards."""
    import trimesh

    mesh = trimesh.Trimesh(points, triangles, process=True)
    pieces = mesh.split(only_watertight=False)
    if len(pieces) > 1:
        volumes = np.array([abs(piece.volume) for piece in pieces])
        mesh = trimesh.util.concatenate([p for p, v in zip(pieces, volumes) if v >= 0.01 * volumes.max()])
    if faces is not None and len(mesh.faces) > faces:
        mesh = mesh.simplify_quadric_decimation(face_count=faces)
    if mesh.volume < 0:
        mesh.invert()
    return np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64)


def paint(mesh, images, cameras: Cameras, *, masks=None, name: str = "painted") -> Mesh:
    """Give a mesh the colours that pictures show: one colour a vertex.

    A vertex takes the mean of the pixels at which it is seen, weighted by the squared cosine between its normal and
    the ray; one that no picture sees takes the colour of the nearest one seen. Light and shadow of the pictures are
    painted on with the rest.

    Parameters
    ----------
    mesh : object with ``vertices`` (N, 3) and ``faces`` (F, 3)
    images : array_like of uint8, shape (V, H, H, 3)
        sRGB.
    cameras : Cameras
        V cameras.
    masks : array_like of bool, shape (V, H, H), optional
        Where False a pixel is background and lends no colour; default: where the picture is not white.
    name : str

    Returns
    -------
    Mesh
        The same surface with vertex colours.

    Raises
    ------
    ValueError
        If shapes do not fit or no picture sees the mesh.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or len(images) != len(cameras):
        raise ValueError(f"images must be uint8 (V, H, H, 3) of {len(cameras)} views; got {images.dtype} "
                         f"{images.shape}")
    masks = np.any(images < 250, axis=-1) if masks is None else np.asarray(masks, bool)
    if masks.shape != images.shape[:3]:
        raise ValueError(f"masks must be {images.shape[:3]}, as the images are; got {masks.shape}")
    vertices = np.asarray(mesh.vertices, np.float64)
    worth = visibility(mesh, cameras) ** 2                                       # (V, N)
    total, colors = np.zeros(len(vertices)), np.zeros((len(vertices), 3))
    shown = cameras.resized(images.shape[1])
    for view, image in enumerate(images):
        pixels, _ = shown.project(vertices, view)
        column, row = np.clip(np.floor(pixels).astype(int), 0, len(image[0]) - 1).T
        inside = np.all((pixels >= 0) & (pixels < shown.size), axis=1) & masks[view, row, column]
        share = worth[view] * inside
        colors += share[:, None] * to_linear(image[row, column] / 255)
        total += share
    seen = total > 0
    if not seen.any():
        raise ValueError("no picture sees the mesh: do mesh and cameras belong together?")
    colors[seen] /= total[seen, None]
    colors[~seen] = colors[seen][cKDTree(vertices[seen]).query(vertices[~seen])[1]]
    rgba = np.concatenate([colors, np.ones((len(colors), 1))], axis=1)
    appearance = Appearance((Material("painted", (1.0, 1.0, 1.0, 1.0)),), np.zeros(len(mesh.faces), np.int64), None,
                            rgba)
    return Mesh(vertices, np.asarray(mesh.faces), appearance, name)


def visibility(mesh, cameras: Cameras) -> np.ndarray:
    """Cosine between normal and ray of each vertex where it is seen, 0 where it is hidden; shape (V, N).

    A ray from the camera sees a vertex if nothing lies before it by more than 0.3 % of the unit cube: a vertex lies
    on the surface that it is tested against.
    """
    import trimesh

    matrix = cameras.normalize
    points = np.asarray(mesh.vertices, np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
    normals = trimesh.Trimesh(points, mesh.faces, process=False).vertex_normals
    caster = ray_caster(points, np.asarray(mesh.faces))
    result = np.zeros((len(cameras), len(points)))
    for view in range(len(cameras)):
        origin = cameras.distance * cameras.rotation(view)[2]
        rays = points - origin
        far = np.linalg.norm(rays, axis=1)
        rays /= far[:, None]
        hit = caster.run(np.broadcast_to(origin, rays.shape).astype(np.float32), rays.astype(np.float32), output=True)
        # The ray that ends on the rim of the surface may miss it: that counts as seen.
        clear = (hit["primID"] < 0) | (hit["tfar"] >= far - 3e-3)
        result[view] = np.clip(-np.sum(rays * normals, axis=1), 0, None) * clear
    return result


def mesh_from_image(image, generate: Callable | None = None) -> Mesh:
    """A mesh from one picture by a generative model that is installed beside this library.

    SP4D lifts its parts to the geometry of Hunyuan3D 2.0 (arXiv 2509.10687, section 3.4). Neither that model nor its
    weights come with this library; without them take :func:`visual_hull` of generated views.

    Parameters
    ----------
    image : PIL image
        The object on transparent or white ground.
    generate : callable, optional
        ``generate(image)`` returns anything with ``vertices`` and ``faces``, upright (y up) and facing +z. Default:
        the package ``hy3dgen`` (Hunyuan3D 2), which downloads its weights under Tencent's community licence.

    Returns
    -------
    Mesh

    Raises
    ------
    ImportError
        If no ``generate`` is given and ``hy3dgen`` is not installed.
    """
    if generate is None:
        try:
            from hy3dgen.shapegen import Hunyuan3DDiTFlowMatchingPipeline
        except ImportError as error:
            raise ImportError("no image-to-3D model is installed. Install Hunyuan3D 2 (package hy3dgen, from "
                              "https://github.com/Tencent-Hunyuan/Hunyuan3D-2), pass generate=your_function, or take "
                              "lifting.visual_hull of generated views") from error
        model = Hunyuan3DDiTFlowMatchingPipeline.from_pretrained("tencent/Hunyuan3D-2")

        def generate(picture):
            return model(image=picture)[0]

    made = generate(image)
    vertices, faces = np.asarray(made.vertices, np.float64), np.asarray(made.faces, np.int64)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3 or not len(faces):
        raise ValueError(f"the model gave no mesh of triangles: vertices {vertices.shape}, faces {faces.shape}")
    return Mesh(vertices, faces, None, "generated")
