"""Parts of a mesh that is at hand: its own renders are the views that the pipeline knows."""

from __future__ import annotations

import numpy as np
import torch

from sp4dlib import coding
from sp4dlib.clips import Cameras, fit_cameras, render
from sp4dlib.diffusion.pipeline import SP4DPipeline, SP4DPipelineOutput, check_views


def segment_mesh(pipeline: SP4DPipeline, mesh, image=None, azimuths=None, elevations=0.0, *, front: float = 0.0,
                 generator: torch.Generator | None = None, num_parts: int | None = None,
                 **options) -> SP4DPipelineOutput:
    """Segment a mesh with a network that segments pictures.

    The mesh is drawn from all views of the model. The drawings are known views: the colour branch is held to them at
    every step, so only parts are generated, and they lie on the mesh, whose silhouettes they fill.

    Parameters
    ----------
    pipeline : SP4DPipeline
        With a `DualUNet`.
    mesh : object with ``vertices`` (N, 3), ``faces`` (F, 3) and, if it has one, ``appearance``
        Grey if it has none.
    image : picture, optional
        What the network is shown as the input; default the mesh itself from the front. Cropped to the object.
    azimuths, elevations : array_like, shape (V,)
        Degrees, as in `SP4DPipeline`; default the model's own.
    front : float
        Degrees: where the camera of azimuth 0 stands round the mesh; 0 is on its +z side.
    generator : torch.Generator, optional
    num_parts : int, optional
        How many parts to decode; default as many as are found.
    **options
        For the pipeline's call, such as ``num_inference_steps``.

    Returns
    -------
    SP4DPipelineOutput
        One frame; ``cameras`` are exact, in the space of the mesh.

    Raises
    ------
    ValueError
        If the model has no branch for parts, or the views are none.
    """
    config = pipeline.config
    azimuths, elevations = check_views(config.azimuths if azimuths is None else azimuths, elevations)
    size, vertices = config.image_size, np.asarray(mesh.vertices, np.float64)
    # The first camera stands for the input's; fit_cameras makes its azimuth 0.
    aimed = fit_cameras(vertices, np.r_[front, front + azimuths - (azimuths[0] if config.shows_input else 0)],
                        np.r_[elevations[0] if config.shows_input else 0.0, elevations], size, config.fill)
    drawn, ids = render(vertices[None], np.asarray(mesh.faces), np.zeros(len(vertices), np.int64), aimed,
                      getattr(mesh, "appearance", None))
    shown = drawn[0, :1] if image is None else pipeline.preprocess(image)[:1]
    known = {(0, view): picture for view, picture in enumerate(drawn[0, 1:])}
    result = pipeline(shown, azimuths, elevations, generator=generator, known=known, crop=False,
                      **options | {"decode_parts": False})
    if result.part_images is None:
        raise ValueError("this model makes colours only; take one with a branch for parts (a DualUNet)")
    cameras = Cameras(aimed.azimuths[1:], aimed.elevations[1:], aimed.fov, aimed.distance, aimed.fill,
                      aimed.normalize, size)
    parts = coding.decode(result.part_images, num_parts, inside=ids[:, 1:] >= 0)
    return SP4DPipelineOutput(result.rgb, result.part_images, parts, cameras)
