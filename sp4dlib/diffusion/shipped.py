"""The trained model that lies beside the library in its repository."""

from __future__ import annotations

import os
from pathlib import Path

from sp4dlib.provenance import ROOT

VARIABLE = "SP4D_MODEL"
MINI = ROOT / "data" / "checkpoints" / "mini"
INDEX = "model_index.json"


def default_model() -> Path:
    """Folder of the model that is taken where none is named: give it to ``SP4DPipeline.from_pretrained``.

    It is the one that the environment variable ``SP4D_MODEL`` names, else ``data/checkpoints/mini`` of the repository
    that this library is run from.

    Raises
    ------
    FileNotFoundError
        If there is none. An installed package does not bring the weights.
    """
    named = os.environ.get(VARIABLE)
    folder = Path(named).expanduser() if named else MINI
    if (folder / INDEX).is_file():
        return folder
    if named:
        raise FileNotFoundError(f"{VARIABLE} names {named}, which holds no {INDEX}: set it to a folder that "
                                "SP4DPipeline.save_pretrained wrote, or unset it")
    raise FileNotFoundError(
        f"there is no model in {folder}: weights come with the repository, an installed package does not bring them. "
        f"Clone it and install it with `pip install -e .`, or set {VARIABLE} to the folder of a model (`sp4d train "
        "mini` makes one), or name a model (in commands, --model)")
