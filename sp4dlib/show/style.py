"""One palette and one look for matplotlib, plotly, Polyscope and video."""

from __future__ import annotations

import os

import numpy as np

# Paul Tol's "muted" scheme and two of his "vibrant" one: told apart with any common colour vision (SRON/EPS/TN/09-002).
PALETTE = ("#CC6677", "#332288", "#DDCC77", "#117733", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499",
           "#EE7733", "#0077BB", "#BBBBBB")
BACKGROUND = "#FFFFFF"


def setup() -> None:
    """Choose how figures are shown; call once at the top of a chapter.

    With ``SP4D_BOOK`` set (the book's build does it), plotly figures are emitted as HTML without plotly.js, which the
    page brings; elsewhere plotly's own default for JupyterLab or Colab stays.
    """
    import matplotlib as mpl
    import plotly.io as pio

    mpl.rcParams.update({
        "figure.dpi": 110, "savefig.dpi": 110, "figure.facecolor": "white", "font.size": 9.5, "axes.titlesize": 10,
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25,
        "axes.prop_cycle": mpl.cycler(color=[PALETTE[k] for k in (10, 9, 3, 0, 1, 6, 8, 7, 5, 2, 4)]),
        "image.interpolation": "nearest", "legend.frameon": False,
    })
    if os.environ.get("SP4D_BOOK"):
        pio.renderers["sp4d_book"] = _book_renderer()
        pio.renderers.default = "sp4d_book"


def _book_renderer():
    import html

    import plotly.io as pio
    from plotly.io._base_renderers import MimetypeRenderer

    class BookRenderer(MimetypeRenderer):
        """HTML with neither plotly.js nor MathJax in it, and the figure's alternative text round it."""

        def to_mimebundle(self, fig_dict):
            meta = fig_dict.get("layout", {}).get("meta") or {}
            body = pio.to_html(fig_dict, include_plotlyjs=False, include_mathjax=False, full_html=False,
                               auto_play=False, default_height=460, validate=False)
            alt = html.escape(meta.get("alt", ""), quote=True)
            return {"text/html": f'<div role="group" aria-label="{alt}">{body}</div>'}

    return BookRenderer()


def id_colors(count: int) -> np.ndarray:
    """Palette colours for ids 0..count-1, uint8, shape (count, 3); past twelve they repeat, lighter or darker."""
    base = np.array([[int(h[i:i + 2], 16) for i in (1, 3, 5)] for h in PALETTE], float)
    ids = np.arange(count)
    turn = (ids // len(PALETTE)) % 3
    toward = np.where(turn == 1, 255.0, 0.0)[:, None]
    mix = np.where(turn == 0, 0.0, 0.4)[:, None]
    return ((1 - mix) * base[ids % len(PALETTE)] + mix * toward).round().astype(np.uint8)


def id_image(parts: np.ndarray) -> np.ndarray:
    """Colour integer part maps (..., H, W) by the palette, background (-1) white; returns uint8 (..., H, W, 3)."""
    parts = np.asarray(parts)
    table = np.concatenate([id_colors(int(parts.max(initial=0)) + 1), [[255, 255, 255]]]).astype(np.uint8)
    return table[parts]
