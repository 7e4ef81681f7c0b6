"""Grids, flipbooks and video of images."""

from __future__ import annotations

import base64
import html
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sp4dlib.clips import Clip


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Images as uint8: floats in [0, 1] are scaled, uint8 is passed through."""
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise TypeError(f"images must be uint8 or float in [0, 1]; got {images.dtype}. Part ids go through id_image")
    return (np.clip(images, 0, 1) * 255).round().astype(np.uint8)


def strip(images: np.ndarray, gap: int = 2) -> np.ndarray:
    """Lay images (R, C, H, W, 3) out as one image, white gaps of ``gap`` pixels between them."""
    images = to_uint8(images)
    rows, cols, height, width, _ = images.shape
    out = np.full((rows * (height + gap) - gap, cols * (width + gap) - gap, 3), 255, np.uint8)
    for r in range(rows):
        for c in range(cols):
            y, x = r * (height + gap), c * (width + gap)
            out[y:y + height, x:x + width] = images[r, c]
    return out


def grid(images, row_labels: Sequence[str] = (), col_labels: Sequence[str] = (), title: str = "", cell: float = 1.35):
    """Matplotlib figure of a grid of images.

    Parameters
    ----------
    images : array_like, shape (R, C, H, W, 3)
        uint8, or float in [0, 1].
    row_labels, col_labels : sequence of str
    title : str
    cell : float
        Inches a cell.

    Returns
    -------
    matplotlib.figure.Figure
        Closed, so that a notebook shows it once: as the value of its cell.
    """
    import matplotlib.pyplot as plt

    images = to_uint8(np.asarray(images))
    if images.ndim != 5:
        raise ValueError(f"a grid needs images (rows, columns, H, W, 3); got shape {images.shape}")
    rows, cols, height, width, _ = images.shape
    fig, axes = plt.subplots(rows, cols, squeeze=False, layout="constrained",
                             figsize=(cell * cols + 0.5 * bool(row_labels), cell * rows * height / width + 0.3))
    for r in range(rows):
        for c in range(cols):
            ax = axes[r, c]
            ax.imshow(images[r, c], interpolation="nearest" if height < 100 else "antialiased")
            ax.set(xticks=[], yticks=[])
            ax.grid(False)
            for spine in ax.spines.values():
                spine.set(visible=True, color="#d5d5d5", linewidth=0.6)
            if r == 0 and c < len(col_labels):
                ax.set_title(col_labels[c], fontsize=9)
            if c == 0 and r < len(row_labels):
                ax.set_ylabel(row_labels[r], fontsize=9)
    if title:
        fig.suptitle(title)
    plt.close(fig)
    return fig


def clip_grid(clip: Clip, frames: Sequence[int] | None = None, views: Sequence[int] | None = None, cell: float = 1.35):
    """Matplotlib figure of a clip: two rows a frame (colour, parts in spatial colours), one column a view."""
    frames = range(len(clip.rgb)) if frames is None else frames
    views = list(range(clip.rgb.shape[1]) if views is None else views)
    part_images = clip.part_images
    images, labels = [], []
    for t in frames:
        images += [clip.rgb[t, views], part_images[t, views]]
        labels += [f"t = {clip.times[t]:.2f} s", "parts"]
    return grid(np.stack(images), labels, [f"{clip.cameras.azimuths[v]:.0f}°" for v in views], cell=cell)


def png_bytes(image: np.ndarray, scale: int = 1) -> bytes:
    """PNG file of an image (H, W, 3), enlarged ``scale`` times without smoothing."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.kron(to_uint8(image), np.ones((scale, scale, 1), np.uint8))).save(buffer, "png")
    return buffer.getvalue()


def flipbook(images, labels: Sequence[str], description: str = "", scale: int = 1, alt: str = ""):
    """A slider through precomputed images; it works on a static page, with no kernel.

    Parameters
    ----------
    images : sequence of array_like, shape (H, W, 3)
        uint8, or float in [0, 1].
    labels : sequence of str
        What each image shows, one an image.
    description : str
        Name of the slider.
    scale : int
        Enlargement by whole pixels.
    alt : str
        Alternative text.

    Returns
    -------
    ipywidgets.VBox
        The slider is linked to the stack of images in the browser (``jslink``).
    """
    import ipywidgets as widgets

    images = list(images)
    if len(images) != len(labels) or not images:
        raise ValueError("a flipbook needs one label for each image, and at least one; "
                         f"got {len(images)} images and {len(labels)} labels")
    pages = []
    for image, label in zip(images, labels):
        height, width = np.asarray(image).shape[:2]
        data = base64.b64encode(png_bytes(image, scale)).decode()
        text = html.escape(f"{alt} {label}".strip(), quote=True)
        pages.append(widgets.HTML(
            f'<figure style="margin:0;color:#222"><figcaption>{html.escape(label)}</figcaption>'
            f'<img alt="{text}" width="{width * scale}" height="{height * scale}" style="max-width:100%;height:auto" '
            f'src="data:image/png;base64,{data}"></figure>'))
    stack = widgets.Stack(pages, selected_index=0)
    slider = widgets.IntSlider(0, 0, len(pages) - 1, description=description, readout=False,
                               style={"description_width": "initial"}, layout=widgets.Layout(width="22em"))
    widgets.jslink((slider, "value"), (stack, "selected_index"))
    return widgets.VBox([slider, stack])


def write_video(frames, path: str | Path, fps: float = 12, scale: int = 1) -> Path:
    """Write frames (T, H, W, 3) to an H.264 MP4; the file appears whole or not at all."""
    import imageio_ffmpeg

    frames = to_uint8(np.asarray(frames))
    frames = frames.repeat(scale, axis=1).repeat(scale, axis=2)
    pad = [(0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)]        # H.264 wants even sides
    frames = np.ascontiguousarray(np.pad(frames, pad, constant_values=255))
    path = Path(path)
    part = path.with_suffix(".part.mp4")
    writer = imageio_ffmpeg.write_frames(str(part), frames.shape[2:0:-1], fps=fps, macro_block_size=1, quality=8,
                                         output_params=["-movflags", "+faststart"])
    writer.send(None)
    for frame in frames:
        writer.send(frame)
    writer.close()
    part.replace(path)
    return path


def video(frames, fps: float = 12, scale: int = 1, alt: str = ""):
    """An MP4 of frames (T, H, W, 3) inside the page, looping.

    Parameters
    ----------
    frames : array_like, shape (T, H, W, 3)
        uint8, or float in [0, 1].
    fps : float
    scale : int
        Enlargement by whole pixels.
    alt : str
        Alternative text.

    Returns
    -------
    IPython.display.HTML
    """
    from IPython.display import HTML

    with tempfile.TemporaryDirectory() as folder:
        data = write_video(frames, Path(folder) / "video.mp4", fps, scale).read_bytes()
    text = html.escape(alt, quote=True)
    return HTML(f'<video controls loop muted autoplay playsinline style="max-width:100%" aria-label="{text}" '
                f'src="data:video/mp4;base64,{base64.b64encode(data).decode()}">{text}</video>')
