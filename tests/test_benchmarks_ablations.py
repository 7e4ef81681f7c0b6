"""The ablation benchmark in small: variants change what they say alone, pairs are paired, nothing is lost."""

import json
from dataclasses import replace

import pytest
import torch

from benchmarks import ablations, record
from sp4dlib.diffusion.recipe import read_recipe
from sp4dlib.model import ConcatUNet, DualUNet

RECIPE = """
size = 16
[model]
carry = true
[model.sizes]
model_channels = 32
channel_mult = [1]
num_res_blocks = 1
attention_resolutions = []
head_dim = 8
context_dim = 0
motion_context_dim = 0
num_noise_level_channels = 4
camera_channels = 4
norm_groups = 8
[data]
frames = 2
views = 2
heldout = 1
[data.set]
per_object = 1
[data.set.clips]
size = 16
frames = 2
views = 2
[[data.set.sources]]
kind = "procedural"
name = "procedural"
count = 1
families = ["fish", "snake"]
splits = { fish = "val", snake = "train" }
[stages.rgb]
steps = 2
batch_size = 1
[stages.dual]
steps = 2
batch_size = 1
known = 0.5
contrastive_weight = 0.1
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("ablations") / "tiny.toml"
    path.write_text(RECIPE)
    return read_recipe(path)


def changed(recipe, other):
    """Names of all values that differ."""
    def leaves(value, name=""):
        if isinstance(value, dict):
            return {leaf: found for key, inner in value.items()
                    for leaf, found in leaves(inner, f"{name}/{key}").items()}
        return {name: value}

    a, b = leaves(recipe.to_dict()), leaves(other.to_dict())
    return {key for key in a.keys() | b.keys() if a.get(key) != b.get(key)}


@pytest.mark.parametrize("variant, names", [
    ("full", set()), ("no_bidifuse", {"/model/sizes/fusion"}),
    ("no_contrastive", {"/stages/dual/contrastive_weight"}), ("random_palette", {"/data/code/palette"}),
    ("object_frame", {"/data/code/frame"}), ("isotropic", {"/data/code/normalize"})])
def test_variants_change_what_they_say(recipe, variant, names):
    assert changed(recipe, ablations.VARIANTS[variant](recipe)) == names


def test_variants_of_a_seed_start_from_the_same_weights(recipe):
    one, other = (ablations.VARIANTS[name](ablations.seeded(recipe, 3)).network() for name in ("full", "no_bidifuse"))
    assert isinstance(one, DualUNet) and one.fusion_mid is not None and other.fusion_mid is None
    for branch in ("rgb", "part"):
        for a, b in zip(getattr(one, branch).parameters(), getattr(other, branch).parameters()):
            assert torch.equal(a, b)
    third = ablations.seeded(recipe, 4).network()
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), third.parameters()))


def test_one_unet_costs_about_as_much(recipe):
    wide = ablations.one_unet(recipe)
    assert isinstance(wide.network(), ConcatUNet) and wide.model.sizes["model_channels"] == 48
    assert list(wide.stages) == ["dual"] and wide.stages["dual"].steps == 3


def test_runs_are_kept_and_go_on(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(ablations, "STEPS", 1)
    monkeypatch.setattr(ablations, "HELDOUT", 1)

    def run(*variants):
        return ablations.run_all(recipe, tmp_path / "work", "tiny", [0], variants, 1, None, "cpu")

    first = run("full")
    kept = json.loads((tmp_path / "results" / "tiny.json").read_text())["results"]["tiny"]["rows"]
    state = run("full", "no_bidifuse", "one_unet")
    assert [row["variant"] for row in state["rows"]] == ["full", "no_bidifuse", "one_unet"]
    assert state["rows"][0] == kept[0] == json.loads(json.dumps(first["rows"][0])), "never trained again"
    for row in state["rows"]:
        assert 0 <= row["scores"]["given"]["multi-view"]["seen"]["miou"] <= 1 and row["losses"]["generated"]["rgb"] > 0
    entry = state["summary"]["one_unet"]["given/multi-frame/unseen/ari"]
    assert set(entry) == {"mean", "spread", "difference", "error"}
    again = ablations.run_all(recipe, tmp_path / "work", "tiny", [0], [], 1, None, "cpu", rescore=True)
    assert [row["scores"] for row in again["rows"]] == [row["scores"] for row in state["rows"]], "the same models"
    assert all("scored" in row for row in again["rows"]) and again["summary"] == state["summary"]
    (tmp_path / "work" / "seed0" / "full" / "model").rename(tmp_path / "gone")
    with pytest.raises(SystemExit, match="scored anew only where they were trained"):
        ablations.run_all(recipe, tmp_path / "work", "tiny", [0], [], 1, None, "cpu", rescore=True)
    with pytest.raises(SystemExit, match="other recipe"):
        ablations.run_all(replace(recipe, about="changed"), tmp_path / "work", "tiny", [0], ["full"], 1, None, "cpu")


def test_differences_are_paired():
    def row(variant, seed, value):
        scores = {"seen": dict.fromkeys(ablations.SCORES, value), "unseen": dict.fromkeys(ablations.SCORES, value)}
        return {"variant": variant, "seed": seed, "scores": {"given": {"multi-view": scores}}, "losses": {}}

    rows = [row("full", 0, 0.2), row("full", 1, 0.6), row("other", 0, 0.1), row("other", 1, 0.3), row("other", 2, 0.9)]
    found = ablations.summarize(rows)["other"]["given/multi-view/both/miou"]
    assert found["mean"] == pytest.approx(1.3 / 3, abs=1e-5) and found["difference"] == pytest.approx(-0.2)
    assert found["error"] == pytest.approx(0.1)
    assert "difference" not in ablations.summarize(rows)["full"]["given/multi-view/both/miou"]
