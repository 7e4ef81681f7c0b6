"""Show: every picture of the book. Nothing but notebooks, the book and the command line imports this room.

Call :func:`setup` once at the top of a chapter. Still pictures are matplotlib figures (:func:`grid`,
:func:`clip_grid`), of meshes too (:func:`still`), what moves is an MP4 (:func:`video`), what a reader turns is plotly
(:func:`mesh_player`, :func:`weights_viewer`), and what a reader steps through is a widget whose state lives in the
page (:func:`flipbook`). Training is watched with :class:`LiveCurves` and looked back on with :func:`training_curves`.
"""

from sp4dlib.show.curves import LiveCurves, training_curves
from sp4dlib.show.images import clip_grid, flipbook, grid, strip, video
from sp4dlib.show.merging import merge_pages
from sp4dlib.show.meshes import mesh_player, polyscope_shot, polyscope_works, weights_viewer
from sp4dlib.show.stills import still
from sp4dlib.show.style import PALETTE, id_colors, id_image, setup

__all__ = ["LiveCurves", "PALETTE", "clip_grid", "flipbook", "grid", "id_colors", "id_image", "merge_pages",
           "mesh_player", "polyscope_shot", "polyscope_works", "setup", "still", "strip", "training_curves", "video",
           "weights_viewer"]
