"""Which size of experiment to run: ``ci``, ``cpu`` or ``gpu``."""

from __future__ import annotations

import os
from dataclasses import dataclass

NAMES = ("ci", "cpu", "gpu")


@dataclass(frozen=True)
class Profile:
    """Sizes that a chapter reads instead of hard-coding them.

    Attributes
    ----------
    name : {"ci", "cpu", "gpu"}
    device : str
        Torch device to compute on.
    """

    name: str
    device: str

    def pick(self, ci, cpu, gpu):
        """The value that belongs to this profile."""
        return {"ci": ci, "cpu": cpu, "gpu": gpu}[self.name]


def current() -> Profile:
    """Return the profile named by ``SP4D_PROFILE``, or the one that fits this machine.

    Raises
    ------
    ValueError
        If ``SP4D_PROFILE`` names no profile.
    """
    import torch

    cuda = torch.cuda.is_available()
    name = os.environ.get("SP4D_PROFILE") or ("gpu" if cuda else "cpu")
    if name not in NAMES:
        raise ValueError(f"SP4D_PROFILE is {name!r}; set it to one of {', '.join(NAMES)}, or unset it")
    return Profile(name, "cuda" if cuda else "cpu")
