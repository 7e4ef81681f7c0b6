"""Curves of training runs: growing while a run goes on, and to be pointed at afterwards."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from sp4dlib.show.style import PALETTE

# What a record may hold, what it is called, and its colour in every figure.
LINES = {"pixels": ("pixels", PALETTE[10]), "rgb": ("colours", PALETTE[10]), "part": ("parts", PALETTE[9]),
         "contrastive": ("contrastive", PALETTE[8]), "heldout": ("held out, mean of weights", "#222222")}
STAGES = {"vae": "autoencoder", "rgb": "stage 1: colours", "coarse": "stage 2, first part",
          "dual": "stage 2: colours and parts"}


def lines_of(history: Sequence[dict]) -> dict[str, tuple[list[int], list[float]]]:
    """Steps and values of every curve in a history, where they are positive.

    A loss that is 0 all along was not trained and has no curve; one that is 0 for a moment, because all of its images
    were known, has no place on a logarithmic axis.
    """
    found = {}
    for name in LINES:
        points = [(record["step"], record[name]) for record in history if record.get(name, 0) > 0]
        if points:
            found[name] = tuple(map(list, zip(*points)))
    return found


class LiveCurves:
    """A figure that grows while a notebook's cell trains; its last state stays in the page.

    A context manager: within it, `add` draws at most once in ``pause`` seconds.

    Parameters
    ----------
    stages : sequence of str
        Panels, from left to right: "vae", "rgb", "dual".
    pause : float
        Seconds.

    Examples
    --------
    >>> with show.LiveCurves(["rgb", "dual"]) as curves:
    ...     outcome = diffusion.follow(recipe, "runs/mine", callback=curves.add)
    """

    def __init__(self, stages: Sequence[str] = ("rgb", "dual"), pause: float = 1.0) -> None:
        import matplotlib.pyplot as plt

        self.histories: dict[str, list[dict]] = {stage: [] for stage in stages}
        self.pause, self.last, self.handle = pause, 0.0, None
        self.figure, axes = plt.subplots(1, len(stages), squeeze=False, layout="constrained",
                                         figsize=(3.9 * len(stages), 2.9))
        self.axes = dict(zip(stages, axes[0]))
        plt.close(self.figure)

    def __enter__(self) -> LiveCurves:
        from IPython.display import display

        self._draw()
        self.handle = display(self.figure, display_id=True)
        return self

    def __exit__(self, *_) -> None:
        self._update()

    def add(self, stage: str, record: dict) -> None:
        """Take up a record: a ``callback`` of :func:`sp4dlib.diffusion.follow`. Other stages are passed over."""
        if stage not in self.histories:
            return
        self.histories[stage].append(record)
        if time.perf_counter() - self.last > self.pause:
            self._update()

    def _update(self) -> None:
        self._draw()
        if self.handle is not None:
            self.handle.update(self.figure)
        self.last = time.perf_counter()

    def _draw(self) -> None:
        for stage, ax in self.axes.items():
            ax.clear()
            for name, (steps, values) in lines_of(self.histories[stage]).items():
                label, color = LINES[name]
                ax.plot(steps, values, "o-" if name == "heldout" else "-", color=color, label=label, markersize=3)
            ax.set(title=STAGES.get(stage, stage), xlabel="steps", yscale="log")
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_formatter("{x:g}")
            ax.tick_params(axis="y", which="minor", labelsize=7)
            ax.set_ylabel("loss" if ax is next(iter(self.axes.values())) else "")
            if ax.lines:
                ax.legend(fontsize=8)


def training_curves(histories: Mapping[str, Sequence[dict]], title: str = "", alt: str = "", height: int = 360):
    """A plotly figure of a run, one panel a stage; a click in the legend hides a curve in all of them.

    Parameters
    ----------
    histories : mapping of str to sequence of dict
        Records of each stage, as ``metrics.jsonl`` holds them. Keys that are no stage are titles of their own.
    title, alt : str
    height : int
        Pixels.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    from plotly.subplots import make_subplots

    if not histories:
        raise ValueError("there is no history to draw: give {stage: records}")
    fig = make_subplots(1, len(histories), subplot_titles=[STAGES.get(stage, stage) for stage in histories])
    named = set()
    for column, history in enumerate(histories.values(), 1):
        for name, (steps, values) in lines_of(history).items():
            label, color = LINES[name]
            fig.add_scatter(x=steps, y=values, row=1, col=column, name=label, legendgroup=label, line_color=color,
                            mode="lines+markers" if name == "heldout" else "lines", marker_size=5,
                            showlegend=label not in named, hovertemplate=f"step %{{x}}: {label} %{{y:.4g}}"
                            "<extra></extra>")
            named.add(label)
    ticks = [digit * 10.0**power for power in range(-5, 3) for digit in (1, 2, 5)]
    fig.update_yaxes(type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks], gridcolor="#eee")
    fig.update_xaxes(title_text="steps", rangemode="tozero", gridcolor="#eee")
    fig.update_layout(title=title or None, height=height, plot_bgcolor="white", meta={"alt": alt},
                      margin=dict(l=10, r=10, t=50 if title else 30, b=10),
                      legend=dict(orientation="h", y=-0.25))
    return fig
