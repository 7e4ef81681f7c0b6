"""The embree engine: the same pictures by ray casting on a CPU, where no OpenGL can be had."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sp4dlib.clips.cameras import Cameras
from sp4dlib.clips.looks import linear, srgb, wrapped
from sp4dlib.clips.scene import Scene, cutoff

SAMPLES = ((0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75))     # column and row of a pixel's four samples
STEP = 1e-5                   # past a hole, a ray goes on from here: a share of the way and a length


@dataclass(frozen=True)
class Hits:
    """Where rays met the surface.

    Attributes
    ----------
    ray : ndarray of int, shape (R,)
        Index of the ray; rays that met nothing are left out.
    face : ndarray of int, shape (R,)
    share : ndarray, shape (R, 3)
        Barycentric coordinates.
    front : ndarray of bool, shape (R,)
    """

    ray: np.ndarray
    face: np.ndarray
    share: np.ndarray
    front: np.ndarray


@dataclass(frozen=True)
class Texture:
    """A texture as levels of halved size, linear RGBA, each (h, w, 4); and its wrap."""

    levels: tuple[np.ndarray, ...]
    wrap: tuple[str, str]

    def at(self, uv: np.ndarray, level: np.ndarray) -> np.ndarray:
        """Bilinear samples (R, 4) at ``uv`` (R, 2) of the nearest ``level`` (R,)."""
        out = np.empty((len(uv), 4))
        level = np.clip(np.rint(level), 0, len(self.levels) - 1)
        for number in np.unique(level).astype(int):
            chosen, image = level == number, self.levels[number]
            size = np.array(image.shape[1::-1])
            place = uv[chosen] * size - 0.5
            low = np.floor(place).astype(np.int64)
            u, v = np.moveaxis(place - low, 1, 0)[..., None]
            (x0, y0), (x1, y1) = ([wrapped(corner[:, k], size[k], self.wrap[k]) for k in (0, 1)]
                                  for corner in (low, low + 1))
            out[chosen] = ((1 - v) * ((1 - u) * image[y0, x0] + u * image[y0, x1])
                           + v * ((1 - u) * image[y1, x0] + u * image[y1, x1]))
        return out


def draw(scene: Scene, cameras: Cameras, rgb: np.ndarray, ids: np.ndarray) -> None:
    """Fill ``rgb`` (T, V, H, W, 3) and ``ids`` (T, V, H, W) with pictures of ``scene``."""
    textures = _textures(scene)
    rgb[:], ids[:] = 255, -1
    for t, positions in enumerate(scene.positions):
        tree = _tree(scene, positions)
        light = _light(scene, scene.normals[t])
        for view in range(len(cameras)):
            rows, columns, pixels = _covered(cameras, view, positions)
            if not len(rows):
                continue
            hits = _cast(tree, scene, textures, *_rays(cameras, view, columns + 0.5, rows + 0.5))
            ids[t, view, rows[hits.ray], columns[hits.ray]] = _labels(scene, hits)
            detail = _detail(scene, pixels)
            total = np.zeros((len(rows), 3))
            for x, y in SAMPLES:
                hits = _cast(tree, scene, textures, *_rays(cameras, view, columns + x, rows + y))
                sample = np.ones((len(rows), 3))
                sample[hits.ray] = _shade(scene, textures, light, detail, hits)
                total += sample
            rgb[t, view, rows, columns] = np.rint(total * (255 / len(SAMPLES)))


def draw_surface(scene: Scene, cameras: Cameras, surface: np.ndarray) -> None:
    """Fill ``surface`` (T, V, H, W, 4) with normals in camera axes and depth; zeros are background."""
    textures = _textures(scene)
    surface[:] = 0
    for t, positions in enumerate(scene.positions):
        tree = _tree(scene, positions)
        for view in range(len(cameras)):
            rows, columns, _ = _covered(cameras, view, positions)
            hits = _cast(tree, scene, textures, *_rays(cameras, view, columns + 0.5, rows + 0.5))
            corners, rotation = scene.faces[hits.face], cameras.rotation(view)
            normals = np.einsum("rk,rkc->rc", hits.share, scene.normals[t][corners]) @ rotation.T
            normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)
            normals[~hits.front] *= -1
            points = np.einsum("rk,rkc->rc", hits.share, positions[corners])
            at = t, view, rows[hits.ray], columns[hits.ray]
            surface[at] = np.c_[normals, cameras.distance - points @ rotation[2]]


def _tree(scene: Scene, positions: np.ndarray):
    """The triangles of one frame, ready for rays."""
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene

    tree = EmbreeScene()
    TriangleMesh(tree, np.ascontiguousarray(positions), np.ascontiguousarray(scene.faces))
    return tree


def _light(scene: Scene, normals: np.ndarray) -> np.ndarray:
    """Light at the front and the back of each vertex, shape (2, N)."""
    cosine = normals @ scene.lights[:, :3].T                                        # (N, L)
    return np.stack([scene.ambient + (0.5 + 0.5 * side * cosine) ** 2 @ scene.lights[:, 3] for side in (1, -1)])


def _covered(cameras: Cameras, view: int, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows and columns of the pixels that the object may touch, and where its vertices lie in the image (N, 2)."""
    camera = positions @ cameras.rotation(view).T.astype(np.float32)
    depth = cameras.distance - camera[:, 2]
    pixels = cameras.focal * camera[:, :2] * [1, -1] / np.maximum(depth, 1e-9)[:, None] + cameras.size / 2
    if (depth <= 0).any():                      # something beside or behind the camera: no box holds it
        low, high = np.zeros(2, int), np.full(2, cameras.size)
    else:
        low = np.clip(np.floor(pixels.min(0)), 0, cameras.size).astype(int)
        high = np.clip(np.ceil(pixels.max(0)), 0, cameras.size).astype(int)
    rows, columns = np.mgrid[low[1]:high[1], low[0]:high[0]]
    return rows.ravel(), columns.ravel(), pixels


def _rays(cameras: Cameras, view: int, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Origins and directions in the unit cube, (R, 3) each, of rays through pixel positions."""
    half = cameras.size / 2
    direction = np.stack([(x - half) / cameras.focal, (half - y) / cameras.focal, -np.ones(len(x))], axis=1)
    rotation = cameras.rotation(view)
    origin = np.array([0, 0, cameras.distance]) @ rotation
    return np.tile(origin.astype(np.float32), (len(x), 1)), (direction @ rotation).astype(np.float32)


def _cast(tree, scene: Scene, textures: dict, origins: np.ndarray, directions: np.ndarray) -> Hits:
    """The first solid surface on each ray: holes and backs of one-sided faces let it pass."""
    found = []
    ray = np.arange(len(origins))
    while len(ray):
        hit = tree.run(origins, directions, output=True)
        met = hit["primID"] >= 0
        face, u, v = hit["primID"][met], hit["u"][met], hit["v"][met]
        front = np.einsum("ri,ri->r", hit["Ng"][met], directions[met]) < 0
        hits = Hits(ray[met], face, np.stack([1 - u - v, u, v], axis=1).astype(np.float64), front)
        solid = (front | ~scene.one_sided[face]) & ~_holes(scene, textures, hits)
        found.append(Hits(*(getattr(hits, name)[solid] for name in ("ray", "face", "share", "front"))))
        ray, way = hits.ray[~solid], hit["tfar"][met][~solid][:, None]
        origins, directions = origins[met][~solid], directions[met][~solid]
        origins = origins + (way * (1 + STEP) + STEP) * directions
    return Hits(*(np.concatenate([getattr(h, name) for h in found]) for name in ("ray", "face", "share", "front")))


def _holes(scene: Scene, textures: dict, hits: Hits) -> np.ndarray:
    """Which hits fall where alpha is under the cutoff of the material, shape (R,)."""
    holes = np.zeros(len(hits.ray), bool)
    for number, material in enumerate(scene.materials):
        limit = cutoff(material)
        chosen = np.flatnonzero(scene.face_material[hits.face] == number) if limit is not None else ()
        if len(chosen):
            corners, share = scene.faces[hits.face[chosen]], hits.share[chosen]
            alpha = material.base_color[3] * np.einsum("rk,rk->r", share, scene.colors[corners, 3])
            if number in textures:
                uv = np.einsum("rk,rkc->rc", share, scene.uv[corners])
                alpha *= textures[number].at(uv, np.zeros(len(uv)))[:, 3]
            holes[chosen] = alpha < limit
    return holes


def _labels(scene: Scene, hits: Hits) -> np.ndarray:
    """The label with the largest share at each hit, shape (R,)."""
    labels = scene.labels[scene.faces[hits.face]]                                   # (R, 3)
    share = np.einsum("rk,rlk->rl", hits.share, labels[:, None, :] == labels[:, :, None])
    return np.take_along_axis(labels, share.argmax(1)[:, None], 1)[:, 0]


def _detail(scene: Scene, pixels: np.ndarray) -> np.ndarray:
    """Binary logarithm of the texture's width per pixel on each face, for a texture of width and height 1.

    Samples lie half a pixel apart, so textures are read one level finer.
    """
    if scene.uv is None:
        return np.zeros(len(scene.faces))

    def area(points):
        a, b, c = (points[scene.faces[:, k]] for k in range(3))
        return np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])

    return 0.5 * np.log2(np.maximum(area(scene.uv), 1e-30) / np.maximum(area(pixels), 1e-30))


def _shade(scene: Scene, textures: dict, light: np.ndarray, detail: np.ndarray, hits: Hits) -> np.ndarray:
    """Colours in sRGB at hits, shape (R, 3) in [0, 1]."""
    corners = scene.faces[hits.face]                                                # (R, 3)
    number = scene.face_material[hits.face]
    factors = np.array([m.base_color[:3] for m in scene.materials])
    seen = light[(~hits.front).astype(int)[:, None], corners]                       # (R, 3)
    base = factors[number][:, None] * scene.colors[corners, :3] * seen[..., None]   # (R, corner, channel)
    plain = np.einsum("rk,rkc->rc", hits.share, srgb(base))
    for m in range(len(scene.materials)):
        texture = textures.get(m)
        chosen = np.flatnonzero(number == m) if texture is not None else ()
        if len(chosen):
            share = hits.share[chosen]
            uv = np.einsum("rk,rkc->rc", share, scene.uv[corners[chosen]])
            level = detail[hits.face[chosen]] - 1 + 0.5 * np.log2(np.prod(texture.levels[0].shape[:2]))
            texel = texture.at(uv, level)[:, :3]
            plain[chosen] = srgb(np.einsum("rk,rkc->rc", share, base[chosen]) * texel)
    return plain


def _textures(scene: Scene) -> dict[int, Texture]:
    """Textures by number of the material; materials that share an image share its levels."""
    levels: dict[int, tuple] = {}
    out = {}
    for number, material in enumerate(scene.materials):
        if material.texture is not None and scene.uv is not None:
            image = id(material.texture)
            levels[image] = levels.get(image) or _levels(material.texture)
            out[number] = Texture(levels[image], material.wrap)
    return out


def _levels(image: np.ndarray) -> tuple[np.ndarray, ...]:
    """The levels of an sRGB image (h, w, 4) of uint8, each the mean of 2 x 2 texels of the last."""
    values = np.arange(256) / 255
    level = np.stack([linear(values)[image[..., c]] if c < 3 else values[image[..., c]] for c in range(4)],
                     axis=-1, dtype=np.float32)
    levels = [level]
    while max(level.shape[:2]) > 1:
        level = level[:level.shape[0] // 2 * 2 or 1, :level.shape[1] // 2 * 2 or 1]
        high, wide = (2 if side > 1 else 1 for side in level.shape[:2])
        level = level.reshape(level.shape[0] // high, high, level.shape[1] // wide, wide, 4).mean((1, 3))
        levels.append(level)
    return tuple(levels)
