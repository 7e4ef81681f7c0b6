"""Curves of training runs, and what a run leaves for the book."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import mini, record
from sp4dlib import show
from sp4dlib.show.curves import lines_of

HISTORY = [{"step": 0, "heldout": 1.5},
           *({"step": n, "loss": 2 / n, "rgb": 1 / n, "part": 3 / n, "contrastive": 0.0, "learning_rate": 1e-3,
              "grad_norm": 1.0} | ({"heldout": 1 / n} if n % 4 == 0 else {}) for n in range(1, 9))]


def test_a_curve_has_the_records_that_hold_it():
    lines = lines_of(HISTORY)
    assert set(lines) == {"rgb", "part", "heldout"}, "a loss of 0 all along was left out of training"
    assert lines["heldout"] == ([0, 4, 8], [1.5, 0.25, 0.125])
    assert lines["part"][0] == list(range(1, 9))


def test_live_curves_take_up_what_training_says():
    with show.LiveCurves(["rgb", "dual"], pause=0) as curves:
        for item in HISTORY:
            curves.add("dual", item)
        curves.add("vae", {"step": 1, "pixels": 0.3})
    assert curves.histories == {"rgb": [], "dual": HISTORY}
    left, right = curves.axes["rgb"], curves.axes["dual"]
    assert not left.lines and len(right.lines) == 3
    np.testing.assert_array_equal(right.lines[0].get_ydata(), [1 / n for n in range(1, 9)])


def test_training_curves_have_a_panel_for_each_stage():
    fig = show.training_curves({"rgb": HISTORY, "dual": HISTORY}, alt="two panels")
    assert [a.text for a in fig.layout.annotations] == ["stage 1: colours", "stage 2: colours and parts"]
    assert len(fig.data) == 6 and sum(trace.showlegend for trace in fig.data) == 3
    assert fig.layout.meta["alt"] == "two panels"
    with pytest.raises(ValueError, match="no history"):
        show.training_curves({})


def run_folder(tmp_path, steps=8):
    """What `sp4d train` leaves, with an autoencoder and a second stage that is not done."""
    run = tmp_path / "run"
    recipe = {"name": "tiny", "about": "", "size": 8, "model": {}, "data": {}, "sampling": {},
              "vae": {"pretrained": ""}, "stages": {"dual": {"seed": 3, "steps": 99}}}
    for name in ("vae", "dual"):
        (run / name).mkdir(parents=True)
        torch.save({"step": steps, "history": HISTORY, "seconds": 90.04,
                    "weights": {"model.a": torch.zeros(3), "head.b": torch.zeros(5)}}, run / name / "checkpoint.pt")
    (run / "recipe.json").write_text(json.dumps(recipe))
    (run / "samples" / "dual").mkdir(parents=True)
    for step in range(1, 31):
        Image.new("RGB", (4, 4), (step, 0, 0)).save(run / "samples" / "dual" / f"{step:07d}.png")
    return run


def test_a_run_is_condensed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")
    monkeypatch.setattr("sys.argv", ["mini", str(run_folder(tmp_path)), "--points", "3", "--samples", "4"])
    (tmp_path / "results" / "mini").mkdir(parents=True)
    (tmp_path / "results" / "mini" / "dual_0000099.png").touch()        # of an earlier run
    mini.main()
    stored = json.loads((tmp_path / "results" / "mini.json").read_text())
    assert {"device", "commit", "date", "seed", "command"} <= set(stored) and stored["seed"] == 3
    found = stored["results"]
    assert not found["finished"] and list(found["stages"]) == ["vae", "dual"]
    dual = found["stages"]["dual"]
    assert (dual["steps"], dual["seconds"], dual["parameters"]) == (8, 90.0, 3) and dual["settings"]["steps"] == 99
    assert [r["step"] for r in dual["history"] if "heldout" in r] == [0, 4, 8]
    assert dual["history"][-1]["step"] == 8 and len(dual["history"]) < len(HISTORY)
    samples = found["samples"]["dual"]
    assert [s["step"] for s in samples][::3] == [1, 30] and len(samples) == 4
    pictures = sorted(path.name for path in (tmp_path / "results" / "mini").iterdir())
    assert pictures == sorted(s["file"].split("/")[1] for s in samples), "pictures of an earlier run are gone"
    assert Image.open(tmp_path / "results" / samples[-1]["file"]).getpixel((0, 0)) == (30, 0, 0)


def test_thinning_keeps_means():
    flat = [{"step": n, "loss": float(n)} for n in range(1, 13)]
    thinned = mini.thin(flat, 3)
    assert thinned == [{"step": 4, "loss": 2.5}, {"step": 8, "loss": 6.5}, {"step": 12, "loss": 10.5}]
    assert mini.thin(flat, 100) == flat and mini.thin([], 3) == []


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(ValueError, match="no recipe.json"):
        mini.condense(tmp_path, 10)
