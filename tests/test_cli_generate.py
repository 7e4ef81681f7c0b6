"""``sp4d generate``: what it writes, and what it says when something is wrong."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusion_toys import tiny_model, toy_clip
from PIL import Image
from safetensors.torch import save_file

from sp4dlib import cli
from sp4dlib.diffusion import shipped
from sp4dlib.diffusion.media import load_frames
from sp4dlib.diffusion.pipeline import SP4DPipeline
from sp4dlib.diffusion.samplers import euler_scheduler
from sp4dlib.show.images import write_video

FILES = ["grid.png", "parts.mp4", "parts.npz", "rgb.mp4", "settings.json"]
FAST = ["--steps", "2", "--quiet", "--device", "cpu"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    SP4DPipeline(tiny_model().eval(), euler_scheduler(20.0), image_size=16, num_frames=2,
                 azimuths=[0, 120, 240]).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def frames():
    return toy_clip(frames=3, views=3, size=16).rgb


@pytest.fixture
def picture(tmp_path, frames):
    path = tmp_path / "toy.png"
    Image.fromarray(frames[0, 0]).save(path)
    return str(path)


def test_a_picture(model, picture, tmp_path, capsys):
    out = tmp_path / "deep" / "out"
    assert cli.main(["generate", picture, "-o", str(out), "--model", model, "--seed", "3", *FAST]) == 0
    assert sorted(path.name for path in out.iterdir()) == FILES
    assert [path.name for path in out.parent.iterdir()] == ["out"], "nothing is left beside it"
    with np.load(out / "parts.npz") as arrays:
        rgb, parts = arrays["rgb"], arrays["parts"]
        assert rgb.shape == arrays["part_images"].shape == (1, 3, 16, 16, 3)
        assert parts.shape == (1, 3, 16, 16) and parts.dtype == np.int16
        assert arrays["azimuths"].tolist() == [0, 120, 240]
    grid = np.asarray(Image.open(out / "grid.png"))
    assert np.array_equal(grid[:16, :16], rgb[0, 0]) and grid.shape[0] == 2 * 16 + 2
    settings = json.loads((out / "settings.json").read_text())
    assert settings["used"] == {"steps": 2, "solver": "euler", "guidance": [1.0, 2.0], "sigma_min": 0.002,
                                "sigma_max": 20.0}
    assert settings["options"]["seed"] == 3 and settings["options"]["input"] == picture
    assert settings["model"]["image_size"] == 16 and settings["views"] == 3
    assert str(out) in capsys.readouterr().out


def test_a_video_with_all_options(model, frames, tmp_path):
    """What the command makes is what the library makes with the same options."""
    import torch

    write_video(frames[:, 0], tmp_path / "walk.mp4", fps=8)
    (tmp_path / "side").mkdir()
    for t, frame in enumerate(frames[:, 1]):
        Image.fromarray(frame).save(tmp_path / "side" / f"{t}.png")
    Image.fromarray(frames[1, 2]).save(tmp_path / "back.png")
    out = tmp_path / "out"
    assert cli.main(["generate", str(tmp_path / "walk.mp4"), "-o", str(out), "--model", model, *FAST, "--azimuths", "0",
                     "-90", "180", "--elevations", "-10", "0", "10", "--known", f"1={tmp_path / 'side'}", "--known",
                     f"1:2={tmp_path / 'back.png'}", "--no-crop", "--solver", "multistep", "--guidance", "1", "1.5",
                     "--seed", "5", "--frames", "3", "--sequential-guidance", "--num-parts", "3"]) == 0
    pipe = SP4DPipeline.from_pretrained(model)
    pipe.set_solver("multistep")
    pipe.set_progress_bar_config(disable=True)
    known = {(t, 1): frames[t, 1] for t in range(3)} | {(1, 2): frames[1, 2]}
    expected = pipe(load_frames(tmp_path / "walk.mp4"), [0, -90, 180], [-10, 0, 10], num_inference_steps=2, crop=False,
                    guidance_scale=(1, 1.5), known=known, generator=torch.Generator().manual_seed(5), num_parts=3,
                    sequential_guidance=True)
    with np.load(out / "parts.npz") as arrays:
        assert np.array_equal(arrays["rgb"], expected.rgb) and np.array_equal(arrays["parts"], expected.parts)
        assert np.array_equal(arrays["rgb"][:, 1], frames[:, 1]) and np.array_equal(arrays["rgb"][1, 2], frames[1, 2])
        assert arrays["azimuths"].tolist() == [0, 270, 180]
    assert json.loads((out / "settings.json").read_text())["used"]["solver"] == "multistep"
    video = load_frames(out / "rgb.mp4")
    assert video.shape == (3, 16, 3 * 18 - 2, 4)


def test_the_same_seed_gives_the_same_pictures(model, picture, tmp_path):
    files = []
    for name in ("a", "b"):
        cli.main(["generate", picture, "-o", str(tmp_path / name), "--model", model, *FAST, "--seed", "1"])
        files.append((tmp_path / name / "grid.png").read_bytes())
    assert files[0] == files[1]


def test_every_other_frame(model, frames, tmp_path):
    (tmp_path / "in").mkdir()
    for t, frame in enumerate(frames[:, 0]):
        Image.fromarray(frame).save(tmp_path / "in" / f"{t}.png")
    assert cli.main(["generate", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model", model, *FAST, "--every",
                     "2", "--no-crop", "--hold-input"]) == 0
    with np.load(tmp_path / "out" / "parts.npz") as arrays:
        assert np.array_equal(arrays["rgb"][:, 0], frames[::2, 0])


def test_a_full_folder_is_kept_or_replaced(model, picture, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("dear")
    command = ["generate", picture, "-o", str(out), "--model", model, *FAST]
    assert cli.main(command) == 1 and "--overwrite" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["mine.txt"]
    assert cli.main([*command, "--overwrite"]) == 0
    assert sorted(path.name for path in out.iterdir()) == FILES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "toy.png"]


def test_nothing_is_left_when_writing_fails(model, picture, tmp_path, monkeypatch, capsys):
    def full(*args, **options):
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    assert cli.main(["generate", picture, "-o", str(tmp_path / "out"), "--model", model, *FAST]) == 1
    assert "No space left" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["toy.png"]


def bad(tmp_path, what):
    if what == "empty.mp4":
        (tmp_path / what).write_bytes(b"")
    elif what == "clear.png":
        Image.fromarray(np.zeros((8, 8, 4), np.uint8)).save(tmp_path / what)
    elif what == "nothing":
        (tmp_path / what).mkdir()
    return str(tmp_path / what)


@pytest.mark.parametrize("what, match", [("empty.mp4", "is empty (0 bytes)"), ("clear.png", "only background"),
                                         ("nothing", "holds no pictures"), ("missing.gif", "no such file")])
def test_bad_input_is_one_line_that_names_the_file(model, tmp_path, capsys, what, match):
    assert cli.main(["generate", bad(tmp_path, what), "-o", str(tmp_path / "out"), "--model", model, *FAST]) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and match in said[0] and what in said[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options, match", [
    (["--azimuths", "0", "90", "--elevations", "0", "0", "0"], "one elevation for each"),
    (["--known", "back.png"], "[FRAME:]VIEW=PATH"), (["--known", "x:1=back.png"], "[FRAME:]VIEW=PATH"),
    (["--known", "1=back.png"], "no such file"), (["--guidance", "1", "2", "3"], "--guidance"),
    (["--every", "0"], "--every"), (["--offload"], "--offload"), (["--chunk-tokens", "0"], "at least one token"),
    (["--chunk", "0"], "chunk must be"), (["--steps", "0"], "num_inference_steps")])
def test_bad_options_are_named(model, picture, tmp_path, capsys, options, match):
    assert cli.main(["generate", picture, "-o", str(tmp_path / "out"), "--model", model, *FAST, *options]) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and match in said[0]


def test_without_a_name_it_takes_the_model_of_the_repository(model, picture, tmp_path, monkeypatch):
    monkeypatch.delenv("SP4D_MODEL", raising=False)
    monkeypatch.setattr(shipped, "MINI", Path(model))
    assert cli.main(["generate", picture, "-o", str(tmp_path / "a"), *FAST]) == 0
    assert cli.main(["generate", picture, "-o", str(tmp_path / "b"), "--model", model, *FAST]) == 0
    assert (tmp_path / "a" / "grid.png").read_bytes() == (tmp_path / "b" / "grid.png").read_bytes()
    assert json.loads((tmp_path / "a" / "settings.json").read_text())["options"]["model"] == model


def test_without_a_model_it_says_how_to_get_one(model, picture, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shipped, "MINI", tmp_path / "mini")
    monkeypatch.delenv("SP4D_MODEL", raising=False)
    run = ["generate", picture, "-o", str(tmp_path / "out"), *FAST]
    assert cli.main(run) == 1
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and str(tmp_path / "mini") in said
    assert all(mend in said for mend in ("pip install -e .", "SP4D_MODEL", "sp4d train mini", "--model"))
    monkeypatch.setenv("SP4D_MODEL", str(tmp_path / "elsewhere"))
    assert cli.main(run) == 1 and f"SP4D_MODEL names {tmp_path / 'elsewhere'}" in capsys.readouterr().err
    monkeypatch.setenv("SP4D_MODEL", model)
    assert cli.main(run) == 0


@pytest.mark.parametrize("kind, match", [("none", "no such folder"), ("empty", "no model_index.json"),
                                         ("other", "is a StableDiffusionPipeline"), ("broken", "is broken")])
def test_wrong_checkpoints_are_named(picture, tmp_path, capsys, kind, match):
    folder = tmp_path / "model"
    if kind != "none":
        folder.mkdir()
    if kind == "other":
        (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    elif kind == "broken":
        (folder / "model_index.json").write_text("{")
    assert cli.main(["generate", picture, "-o", str(tmp_path / "out"), "--model", str(folder), *FAST]) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and match in said[0] and str(folder) in said[0]


def test_help_needs_no_torch_and_tells_all_options():
    code = ("import sys\nfrom sp4dlib import cli\ntry:\n    cli.main(['generate', '--help'])\nexcept SystemExit:\n"
            "    assert 'torch' not in sys.modules, 'slow'\n")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    for word in ("--azimuths", "--elevations", "--steps", "--guidance", "--seed", "--solver", "--known", "--device",
                 "rgb.mp4", "grid.png", "parts.npz", "settings.json"):
        assert word in run.stdout


def test_a_file_of_a_name_that_tells_nothing_needs_its_kind(picture, model, tmp_path, capsys):
    weights = tmp_path / "weights.safetensors"
    save_file({"model.diffusion_model.input_blocks.1.1.motion_blocks.0.norm_in.bias": torch.zeros(1)}, weights)
    run = ["generate", picture, "-o", str(tmp_path / "out"), *FAST]
    assert cli.main([*run, "--model", str(weights)]) == 1
    assert "may be sv4d2 or sv4d2_8views" in capsys.readouterr().err
    for kind, message in (("sp4d", "is not sp4d"), ("sv4d2_8views", "do not fit the network")):
        assert cli.main([*run, "--model", str(weights), "--kind", kind]) == 1
        assert message in capsys.readouterr().err
    assert cli.main([*run, "--model", model, "--kind", "sp4d"]) == 1
    assert "leave it out" in capsys.readouterr().err
