"""``sp4d evaluate``: what it writes, that it goes on where it was stopped, and what it says when something is wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
from diffusion_toys import tiny_model
from PIL import Image

from sp4dlib import cli
from sp4dlib.diffusion.pipeline import SP4DPipeline
from sp4dlib.diffusion.samplers import euler_scheduler
from sp4dlib.evaluation import examples, protocols, read_results

RECIPE = """
size = 32
[model.sizes]
model_channels = 8
[data]
frames = 2
views = 3
[data.set]
[data.set.clips]
size = 32
[[data.set.sources]]
kind = "procedural"
name = "procedural"
count = 5
families = ["quadruped", "snake"]
splits = { snake = "val", quadruped = "train" }
[stages.dual]
"""
FAST = ["--split", "val", "--per-family", "1", "--steps", "2", "--guidance", "1", "--quiet", "--device", "cpu",
        "--protocol", "multi-view", "multi-frame"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    SP4DPipeline(tiny_model().eval(), euler_scheduler(20.0), image_size=32, num_frames=2, known_input="clean",
                 azimuths=[0, 120, 240]).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "snakes.toml"
    path.write_text(RECIPE)
    return str(path)


@pytest.fixture(scope="module")
def whole(model, recipe, tmp_path_factory):
    """An evaluation that nothing disturbs: its file and its pictures."""
    out = tmp_path_factory.mktemp("whole")
    assert cli.main(["evaluate", model, "-o", str(out / "r.json"), "--recipe", recipe, "--pictures", str(out / "p"),
                     *FAST]) == 0
    return out / "r.json", out / "p"


def measured(path):
    """What does not depend on the day."""
    results = read_results(path)
    return {name: results[name] for name in ("config", "model", "summary", "skipped", "rows", "seed")}


def test_every_protocol_setting_and_method_has_its_row(whole):
    results = json.loads(whole[0].read_text())
    assert {"device", "commit", "date", "seed", "command", "wall_seconds"} <= set(results)
    assert results["config"] == {"split": "val", "size": 32, "frames": 2, "views": 3, "seed": 0, "steps": 2,
                                 "guidance": [1.0]}
    assert len(results["model"]["sha256"]) == 64
    found = [(row["protocol"], row["setting"], row["method"]) for row in results["rows"]]
    per_clip = {"baseline": ["kmeans", "components"], "generated": ["model", "model_count"],
                "ceiling": ["all_parts", "all_parts_count", "scored_parts", "scored_parts_count"],
                "given": ["model", "model_mask", "model_count", "model_count_mask"]}
    wanted = [("multi-view", setting, method) for setting, methods in per_clip.items() for method in methods]
    wanted += [("multi-frame", setting, method) for setting, methods in per_clip.items()
               for method in methods + ["flow"] * (setting == "baseline")]
    assert found == [row for row in wanted if row[1] == "baseline"][:2] + found[2:] and sorted(found) == sorted(wanted)
    assert {row["subject"] for row in results["rows"]} == {"procedural/snake/00000"}, "the family of the split, once"
    ceiling = [row["miou"] for row in results["rows"] if row["method"].startswith("scored_parts")]
    assert ceiling == [1.0] * 4, "without an autoencoder nothing is lost"
    assert len(results["summary"]) == len(found)
    generated = next(row for row in results["rows"] if row["setting"] == "generated")
    assert {"psnr", "ssim", "psnr_further", "inside", "silhouette_iou"} <= set(generated)


def test_pictures_of_best_median_and_worst(whole):
    path, folder = whole
    chosen = examples(read_results(path), folder, "multi-frame", "given", "model_mask")
    assert [example.rank for example in chosen] == ["best", "median", "worst"]
    assert chosen[0].rgb.shape == chosen[0].parts.shape == chosen[0].generated.shape == (2, 32, 32, 3)
    assert "baseline/flow" in chosen[0].predicted and "ceiling/scored_parts" in chosen[0].predicted
    assert np.array_equal(chosen[0].predicted["ceiling/scored_parts"], chosen[0].parts), "perfect parts, true colours"
    sheet = np.asarray(Image.open(folder / "procedural_multi-frame_worst.png"))
    assert sheet.shape[1] == 3 * (2 * 32 + 2)
    with pytest.raises(ValueError, match="no row"):
        examples(read_results(path), folder, "multi-frame", "given", "magic")


@pytest.mark.parametrize("stop_at", [0, 5])
def test_stopped_and_resumed_is_as_if_not_stopped(whole, model, recipe, tmp_path, monkeypatch, capsys, stop_at):
    out = ["evaluate", model, "-o", str(tmp_path / "r.json"), "--recipe", recipe, *FAST]
    real, calls = protocols.predictions, []

    def interrupted(*args, **options):
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        calls.append(args[1])
        return real(*args, **options)

    monkeypatch.setattr(protocols, "predictions", interrupted)
    with pytest.raises(SystemExit) as stopped:
        cli.main(out)
    assert stopped.value.code == 130 and "--resume" in capsys.readouterr().err
    assert (tmp_path / "r.json").exists() == (stop_at > 0), "the rows before are kept"
    calls.clear()
    monkeypatch.setattr(protocols, "predictions", lambda *a, **k: calls.append(a[1]) or real(*a, **k))
    assert cli.main([*out, "--resume"]) == 0
    assert len(calls) == 8 - stop_at, "nothing is done twice"
    assert measured(tmp_path / "r.json") == measured(whole[0])
    assert not list(tmp_path.glob(".*")), "nothing is left beside it"


def test_a_file_of_another_evaluation_is_not_touched(whole, model, recipe, tmp_path, capsys):
    path = tmp_path / "r.json"
    path.write_bytes(whole[0].read_bytes())
    out = ["evaluate", model, "-o", str(path), "--recipe", recipe, *FAST]
    assert cli.main(out) == 1 and "--resume" in capsys.readouterr().err
    assert cli.main([*out, "--resume", "--seed", "5"]) == 1 and "seed differ" in capsys.readouterr().err
    assert path.read_bytes() == whole[0].read_bytes()


def test_without_a_name_it_measures_the_model_of_the_repository(whole, model, recipe, tmp_path, monkeypatch):
    monkeypatch.delenv("SP4D_MODEL", raising=False)
    monkeypatch.setattr("sp4dlib.diffusion.shipped.MINI", Path(model))
    monkeypatch.setattr("sp4dlib.cli_evaluate.ROOT", Path(model).parent)
    assert cli.main(["evaluate", "-o", str(tmp_path / "r.json"), "--recipe", recipe, *FAST, "--setting", "given"]) == 0
    found, named = measured(tmp_path / "r.json"), measured(whole[0])
    assert found["rows"] == [row for row in named["rows"] if row["setting"] == "given"]
    assert found["model"] == named["model"] | {"path": Path(model).name}, "named from the top of the repository"


def test_baselines_need_no_model(recipe, tmp_path, capsys):
    path = tmp_path / "b.json"
    assert cli.main(["evaluate", "--only-baselines", "-o", str(path), "--recipe", recipe, "--split", "val", "--size",
                     "32", "--frames", "2", "--subjects", "1", "--protocol", "multi-view", "--quiet"]) == 0
    assert [row["method"] for row in read_results(path)["rows"]] == ["kmeans", "components"]
    printed = capsys.readouterr().out
    assert "procedural/snake" in printed and "K " in printed and "2 rows" in printed


def test_what_fails_is_named_and_the_rest_goes_on(model, recipe, tmp_path, monkeypatch, capsys):
    real = protocols.predictions

    def broken(scene, setting, *args, **options):
        if setting == "generated":
            raise FloatingPointError("the network's answers are not finite")
        return real(scene, setting, *args, **options)

    monkeypatch.setattr(protocols, "predictions", broken)
    path = tmp_path / "r.json"
    words = ["evaluate", model, "-o", str(path), "--recipe", recipe, *FAST, "--setting", "generated", "given",
             "--protocol", "multi-view"]
    assert cli.main(words) == 0
    results = read_results(path)
    assert {row["setting"] for row in results["rows"]} == {"given"}
    assert [item["setting"] for item in results["skipped"]] == ["generated"]
    assert "not finite" in capsys.readouterr().out
    monkeypatch.setattr(protocols, "predictions", real)
    assert cli.main([*words, "--resume"]) == 0
    results = read_results(path)
    assert not results["skipped"] and {row["setting"] for row in results["rows"]} == {"generated", "given"}


@pytest.mark.parametrize(("words", "message"), [
    ([], "data/checkpoints/mini"), (["--only-baselines", "--no-baselines"], "nothing to do"),
    (["--only-baselines", "--protocol", "side"], "none of multi-view"),
    (["--only-baselines", "--setting", "guess"], "none of baseline"),
    (["--only-baselines", "--groups", "unicorns"], "no such subjects"),
    (["/nowhere/model"], "no such folder"), (["--only-baselines", "--recipe", "cake"], "is no recipe")])
def test_bad_options_are_one_clear_line(words, message, recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SP4D_MODEL", raising=False)
    monkeypatch.setattr("sp4dlib.diffusion.shipped.MINI", tmp_path / "data/checkpoints/mini")
    words = words if "--recipe" in words else [*words, "--recipe", recipe]
    assert cli.main(["evaluate", *words, "--split", "val", "--quiet"]) == 1
    assert message in capsys.readouterr().err
