"""Videos of any length, for a network that makes a fixed number of frames."""

from __future__ import annotations

from typing import NamedTuple


class Window(NamedTuple):
    """One run of the network.

    Attributes
    ----------
    start : int
        Its first frame.
    made : int
        How many of its frames, from its first, an earlier window has made already.
    stop : int
        End of the frames that are taken from it, which are ``start + made`` to ``stop - 1``. Frames of the window
        past the video repeat the last one.
    """

    start: int
    made: int
    stop: int

    @property
    def frames(self) -> range:
        """The frames that this window gives to the video."""
        return range(self.start + self.made, self.stop)


def plan_windows(length: int, size: int) -> list[Window]:
    """Cut a video into windows of the network's size.

    Neighbours share one frame, so that the later one can continue what the earlier one began. If the last window would
    reach past the video it is shifted back and shares more. Every frame is taken from exactly one window, the earlier
    of those that have it, and every window gives at least one frame. A video shorter than a window is one window.

    SV4D 2.0's release starts its windows at multiples of ``size`` and its last at ``length - size``, so that
    neighbours share a frame only by chance.

    Parameters
    ----------
    length : int
        Frames of the video, >= 1.
    size : int
        Frames of a window, >= 1. Windows of one frame share none.

    Returns
    -------
    list of Window
        In order of time.
    """
    if length < 1 or size < 1:
        raise ValueError(f"a video and a window have at least one frame; got {length} and {size}")
    plan, made = [], 0
    while made < length:
        shared = min(1, made, size - 1)
        start = max(0, min(made - shared, length - size))
        stop = min(start + size, length)
        plan.append(Window(start, made - start, stop))
        made = stop
    return plan
