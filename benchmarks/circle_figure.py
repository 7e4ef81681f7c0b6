"""Draw the picture of the circle that README and introduction show: ``python -m benchmarks.circle_figure``.

Nothing in it is drawn by hand: the right panel is the rig that :func:`sp4dlib.lifting.auto_rig` recovers from the
rendered part maps, posed by the artist's walk.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from sp4dlib import clips, coding, lifting, rigs, show

SIZE = 900              # pixels of a rendered square before its margins are cut
TIME = 0.45             # of the walk's duration
AZIMUTH, ELEVATION = 55, 10


def carrying(rig):
    """Joints that move some of the surface: artists' files also hold handles that move only other joints."""
    return rig.weights.sum(axis=0) > 0


def bone_lines(camera, skeleton, joints, shown):
    """Pixel pairs (B, 2, 2) of the bones between ``shown`` joints at ``joints`` (J, 3), as ``camera`` sees them."""
    pixels, _ = camera.project(joints, 0)
    parents = skeleton.parents
    children = np.flatnonzero((parents >= 0) & shown & shown[np.maximum(parents, 0)])
    return np.stack([pixels[parents[children]], pixels[children]], axis=1)


def faceted(rig, labels, codes):
    """Vertex index and appearance that paint every face in the colour of its part, with no blending."""
    corners = labels[rig.faces]
    majority = np.where(corners[:, 1] == corners[:, 2], corners[:, 1], corners[:, 0])
    colors = np.concatenate([linear(codes[majority]), np.ones((len(majority), 1))], axis=1).repeat(3, axis=0)
    white = rigs.Material(base_color=(1, 1, 1, 1))
    return rig.faces.ravel(), rigs.Appearance((white,), np.zeros(len(rig.faces), int), vertex_colors=colors)


def linear(colors: np.ndarray) -> np.ndarray:
    """sRGB uint8 to linear floats, as vertex colours are stored."""
    c = colors / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def panels(rig):
    """The four panels: images (H, W, 3), and bones or None."""
    walk = rig.animation("walk")
    parts = clips.kinematic_parts(rig)
    film = clips.make_clip(rig, walk, np.linspace(0, walk.duration, 5)[:-1], parts=parts, size=320,
                           azimuths=AZIMUTH + np.arange(0, 360, 30), elevations=ELEVATION)
    tiles = np.stack([film.rgb[1, [0, 2, 5, 9]], film.part_images[1, [0, 2, 5, 9]]], axis=1)      # (4, 2, H, W, 3)
    inked = np.flatnonzero((tiles < 250).any((0, 1, 3, 4)))
    tiles = tiles[:, :, max(inked[0] - 6, 0):inked[-1] + 6]

    labels = lifting.vertex_labels(rig, film.parts, film.cameras, rig.pose(walk, film.times))
    found = lifting.auto_rig(rig, labels=labels, names=parts.names)
    _, joint_part = lifting.extract_skeleton(rig, labels, parts.names, return_parts=True)
    drivers = lifting.part_drivers(rig, labels, joint_part)
    copied = lifting.retarget(found.skeleton, rig, walk, drivers)

    now = [TIME * walk.duration]
    camera = clips.fit_cameras(np.stack([rig.pose(walk, now)[0], rig.vertices]), [AZIMUTH], ELEVATION, SIZE)
    index, paint = faceted(rig, labels, coding.encode(np.arange(len(parts)), film.colors))
    faces = np.arange(len(index)).reshape(-1, 3)

    def painted(vertices):
        return clips.render(vertices[None, index], faces, labels[index], camera, paint)[0][0, 0]

    first = clips.render(rig.pose(walk, now), rig.faces, labels, camera, rig.appearance)[0][0, 0]
    before = rig.joint_transforms(walk, now)[0, :, :3, 3]
    after = found.joint_transforms(copied, now)[0, :, :3, 3]
    everywhere = np.ones(len(found.skeleton), bool)
    return [(first, bone_lines(camera, rig.skeleton, before, carrying(rig))),
            (show.strip(tiles, gap=10), None),
            (painted(rig.vertices), None),
            (painted(found.pose(copied, now)[0]), bone_lines(camera, found.skeleton, after, everywhere))]


def draw(rig, path: Path) -> None:
    """Write the figure to ``path``."""
    import matplotlib.pyplot as plt
    from matplotlib.collections import LineCollection

    titles = ("an artist's rig", "colour and part video", "parts on the bare mesh", "a rig again")
    images = panels(rig)
    boxes = []
    for image, _ in images:
        rows, columns = np.nonzero((image < 250).any(-1))
        boxes.append((columns.min() - 8, columns.max() + 8, rows.max() + 8, rows.min() - 8))
    widths = [(right - left) / (bottom - top) for left, right, bottom, top in boxes]
    fig, axes = plt.subplots(1, 4, figsize=(13, 13.4 / sum(widths)), width_ratios=widths)
    fig.subplots_adjust(left=0.01, right=0.99, bottom=0.02, top=0.86, wspace=0.14)
    for ax, (image, bones), box, title in zip(axes, images, boxes, titles):
        ax.imshow(image)
        ax.set(xlim=box[:2], ylim=box[2:])
        ax.set_axis_off()
        ax.set_title(title, fontsize=13, color="#333333")
        if bones is not None:
            ax.add_collection(LineCollection(bones, colors="white", linewidths=4.2, capstyle="round"))
            ax.add_collection(LineCollection(bones, colors="#222222", linewidths=2, capstyle="round"))
            joints = bones.reshape(-1, 2)
            ax.scatter(*joints.T, s=16, color="#222222", edgecolor="white", linewidth=0.8, zorder=3)
    fig.canvas.draw()
    for left, right in zip(axes[:-1], axes[1:]):
        start, end = left.get_position().x1, right.get_position().x0
        middle, half = (start + end) / 2, 0.011
        fig.add_artist(plt.matplotlib.patches.FancyArrowPatch(
            (middle - half, 0.44), (middle + half, 0.44), arrowstyle="-|>", mutation_scale=18, lw=2.2, color="#0077BB"))
    part = path.with_suffix(".part.png")
    fig.savefig(part, dpi=130, facecolor="white")
    part.replace(path)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.circle_figure", description=__doc__.split("\n")[0])
    parser.add_argument("--rig", default="ShibaInu")
    parser.add_argument("-o", "--output", type=Path, default=Path("book/_static/circle.png"))
    chosen = parser.parse_args()
    draw(rigs.example(chosen.rig), chosen.output)


if __name__ == "__main__":
    main()
