"""Recipes: reading, counting, following, stopping; and the command on top."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from sp4dlib import cli
from sp4dlib.clips import KinematicParts
from sp4dlib.diffusion import run_recipe
from sp4dlib.diffusion.autoencoder import make_vae
from sp4dlib.diffusion.run_recipe import follow
from sp4dlib.diffusion.pipeline import SP4DPipeline
from sp4dlib.diffusion.recipe import CONFIGS, STATE_BYTES, budget, read_recipe, shipped

RECIPE = """
size = 16
[model.sizes]
model_channels = 8
channel_mult = [1]
num_res_blocks = 1
attention_resolutions = []
head_dim = 8
context_dim = 0
motion_context_dim = 0
num_noise_level_channels = 4
camera_channels = 4
norm_groups = 4
[data]
frames = 2
views = 2
heldout = 1
[data.set]
per_object = 1
[data.set.clips]
size = 16
frames = 3
views = 3
[[data.set.sources]]
kind = "procedural"
name = "procedural"
count = 1
families = ["quadruped", "bird"]
splits = { bird = "val", quadruped = "train" }
[vae]
width = 8
blocks = 1
latent_channels = 4
steps = 2
[stages.rgb]
steps = 2
batch_size = 1
log_every = 1
[stages.dual]
steps = 4
batch_size = 2
known = 0.5
contrastive_weight = 0.1
log_every = 1
checkpoint_every = 2
sample_every = 2
[sampling]
steps = 2
dtype = "float16"
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(RECIPE)
    return read_recipe(path)


@pytest.fixture(scope="module")
def whole(recipe, tmp_path_factory):
    """A run that nothing disturbs, and its folder."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    return follow(recipe, out, device="cpu", progress=False), out


def test_it_makes_a_model_that_can_be_loaded(recipe, whole):
    outcome, out = whole
    assert outcome.finished and list(outcome.stages) == ["rgb", "dual"]
    pipe = SP4DPipeline.from_pretrained(out / "model")
    assert pipe.config.known_input == "clean" and pipe.config.azimuths == [0.0, 180.0] and pipe.config.image_size == 16
    for a, b in zip(pipe.unet.parameters(), outcome.stages["dual"].ema.parameters()):
        assert a.dtype == torch.float32 and torch.equal(a, b.half().float()), "saved in half precision"
    assert next(outcome.pipeline.unet.parameters()).dtype == torch.float32
    assert [path.name for path in sorted((out / "samples" / "dual").iterdir())] == ["0000002.png", "0000004.png"]
    assert json.loads((out / "recipe.json").read_text()) == recipe.to_dict()
    assert sum(1 for _ in open(out / "dual" / "metrics.jsonl")) == 5


def test_both_branches_start_from_the_colour_branch(recipe, whole):
    """With a rate of almost 0, stage 2 stays where stage 1 ended."""
    outcome, out = whole
    still = replace(recipe.stages["dual"], learning_rate=1e-12, steps=1, sample_every=0)
    again = follow(replace(recipe, stages=recipe.stages | {"dual": still}), out.parent / "still", data=out / "data",
                   device="cpu", progress=False)
    first, second = again.stages["rgb"].ema, again.stages["dual"].ema
    for name, parameter in first.named_parameters():
        torch.testing.assert_close(second.rgb.get_parameter(name), parameter, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(second.part.get_parameter(name), parameter, rtol=1e-5, atol=1e-6)


def test_stopped_anywhere_it_ends_with_the_same_weights(recipe, whole, tmp_path):
    outcome, out = whole
    began = []
    for minutes in (1e-9, 1e-9, 1e-9, None):             # within the autoencoder, within each stage, to the end
        pieces = follow(recipe, tmp_path / "run", data=out / "data", resume=True, minutes=minutes, device="cpu",
                        progress=False)
        began.append({name: result.steps for name, result in pieces.stages.items()})
    assert began == [{}, {"rgb": 1}, {"rgb": 2, "dual": 1}, {"rgb": 2, "dual": 4}] and pieces.finished
    for name, result in outcome.stages.items():
        assert pieces.stages[name].history == result.history
    for a, b in zip(pieces.pipeline.unet.parameters(), outcome.pipeline.unet.parameters()):
        assert torch.equal(a, b)


@pytest.mark.parametrize("stage, step", [("rgb", 1), ("dual", 1), ("dual", 3)])
def test_killed_at_any_step_the_curve_is_the_same(recipe, whole, tmp_path, stage, step):
    """Nothing is saved when it dies: it goes on from the last checkpoint, or begins the stage again."""
    outcome, out = whole

    def kill(name, record):
        if (name, record["step"]) == (stage, step):
            raise SystemExit("killed")

    (tmp_path / "run").mkdir()
    shutil.copytree(out / "vae", tmp_path / "run" / "vae")          # its own stops are tested elsewhere
    shutil.copy(out / "recipe.json", tmp_path / "run")
    common = dict(data=out / "data", resume=True, device="cpu", progress=False)
    with pytest.raises(SystemExit, match="killed"):
        follow(recipe, tmp_path / "run", callback=kill, **common)
    again = follow(recipe, tmp_path / "run", **common)
    assert again.finished
    for name, result in outcome.stages.items():
        assert again.stages[name].history == result.history
        assert (tmp_path / "run" / name / "metrics.jsonl").read_text() == (out / name / "metrics.jsonl").read_text()
    for a, b in zip(again.pipeline.unet.parameters(), outcome.pipeline.unet.parameters()):
        assert torch.equal(a, b)


def test_small_pictures_come_first(recipe, whole, tmp_path):
    """The coarse stage goes on from stage 1, stage 2 from the coarse one, and what it costs shrinks with the area."""
    outcome, out = whole
    coarse = replace(recipe.stages["dual"], steps=2, shrink=2, sample_every=0)
    chosen = replace(recipe, stages=recipe.stages | {"coarse": coarse})
    (tmp_path / "run").mkdir()
    for name in ("vae", "rgb"):
        shutil.copytree(out / name, tmp_path / "run" / name)
    shutil.copy(out / "recipe.json", tmp_path / "run")
    made = follow(chosen, tmp_path / "run", data=out / "data", resume=True, device="cpu", progress=False)
    assert list(made.stages) == ["rgb", "coarse", "dual"] and made.finished
    assert made.stages["rgb"].history == outcome.stages["rgb"].history
    first = [stages["dual"].heldout[0][1] for stages in (made.stages, outcome.stages)]
    assert first[0] != first[1], "stage 2 has begun from other weights"
    cost = budget(chosen)
    assert cost["coarse"].parameters == cost["dual"].parameters
    assert 3 * cost["coarse"].sample_flops < cost["dual"].sample_flops < 5 * cost["coarse"].sample_flops
    with pytest.raises(ValueError, match=r"\[stages.coarse\] pictures of 16 pixels"):
        replace(recipe, stages=recipe.stages | {"coarse": replace(coarse, shrink=3)})


def test_single_frames_come_first(recipe, whole, tmp_path, monkeypatch):
    """A stage may see fewer frames of a window than the recipe has; it costs so much less."""
    outcome, out = whole
    coarse = replace(recipe.stages["dual"], steps=1, frames=1, sample_every=0)
    chosen = replace(recipe, stages=recipe.stages | {"coarse": coarse})
    shutil.copytree(out, tmp_path / "run", ignore=shutil.ignore_patterns("data", "dual", "model", "samples"))
    drawn = {}

    def train(network, windows, config, folder, **told):
        drawn[folder.name] = windows.draw(torch.Generator().manual_seed(0)).rgb.shape[:2]
        return run_train(network, windows, config, folder, **told)

    run_train = run_recipe.train
    monkeypatch.setattr(run_recipe, "train", train)
    made = follow(chosen, tmp_path / "run", data=out / "data", resume=True, device="cpu", progress=False)
    frames, views = recipe.data.frames, recipe.data.views
    assert made.finished and drawn == {"rgb": (frames, views), "coarse": (1, views), "dual": (frames, views)}
    cost = budget(chosen)
    assert cost["coarse"].sample_flops * frames == pytest.approx(cost["dual"].sample_flops, rel=0.1)
    with pytest.raises(ValueError, match=r"\[stages.coarse\] windows of 99 frames"):
        replace(recipe, stages=recipe.stages | {"coarse": replace(coarse, frames=99)})
    with pytest.raises(ValueError, match="frames not negative"):
        replace(coarse, frames=-1)


def test_a_folder_belongs_to_one_recipe(recipe, whole, tmp_path):
    _, out = whole
    with pytest.raises(ValueError, match="not empty"):
        follow(recipe, out, device="cpu")
    other = replace(recipe, model=replace(recipe.model, seed=1))
    with pytest.raises(ValueError, match="another recipe: model"):
        follow(other, out, resume=True, device="cpu")
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="no training run"):
        follow(recipe, tmp_path, resume=True, device="cpu")
    bigger = replace(recipe, size=32, data=replace(recipe.data, set=None))
    with pytest.raises(ValueError, match="16 pixels.*--size 32"):
        follow(bigger, tmp_path / "bigger", data=out / "data", device="cpu")
    with pytest.raises(ValueError, match="no set of its own"):
        follow(bigger, tmp_path / "none", device="cpu")


def test_a_run_can_be_tried_while_it_goes_on(recipe, whole, tmp_path, capsys):
    """The export of a finished run is its model; that of a stopped one has the running mean at its last checkpoint."""
    _, out = whole
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    assert cli.main(["train", str(path), "-o", str(out), "--export", str(tmp_path / "end")]) == 0
    assert "4 of 4 steps" in capsys.readouterr().out
    for name in ("unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors",
                 "model_index.json"):
        assert (tmp_path / "end" / name).read_bytes() == (out / "model" / name).read_bytes(), name

    half = tmp_path / "half"
    shutil.copytree(out, half, ignore=shutil.ignore_patterns("dual", "model", "data"))
    with pytest.raises(ValueError, match="not come to the first checkpoint of stage 2"):
        run_recipe.export_run(recipe, half, tmp_path / "trial")

    def stop(stage, record):
        if (stage, record["step"]) == ("dual", 3):
            raise SystemExit

    with pytest.raises(SystemExit):
        follow(recipe, half, data=out / "data", resume=True, device="cpu", progress=False, callback=stop)
    before = sorted((file, file.stat().st_mtime_ns) for file in half.rglob("*"))
    for _ in range(2):                                                              # the second replaces the first
        assert run_recipe.export_run(recipe, half, tmp_path / "trial") == ("dual", 2)
    assert sorted((file, file.stat().st_mtime_ns) for file in half.rglob("*")) == before
    mean = torch.load(half / "dual" / "checkpoint.pt", weights_only=True)["mean"]
    for name, tensor in SP4DPipeline.from_pretrained(tmp_path / "trial").unet.state_dict().items():
        assert torch.equal(tensor, mean[f"model.{name}"].half().float())


def test_an_export_disturbs_nothing(recipe, whole, tmp_path):
    _, out = whole
    other = replace(recipe, model=replace(recipe.model, seed=1))
    with pytest.raises(ValueError, match="another recipe: model"):
        run_recipe.export_run(other, out, tmp_path / "model")
    with pytest.raises(ValueError, match="no training run"):
        run_recipe.export_run(recipe, tmp_path, tmp_path / "model")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="holds no model"):
        run_recipe.export_run(recipe, out, tmp_path / "mine")
    assert [file.name for file in tmp_path.rglob("*")] == ["mine", "letter.txt"]


def test_a_broken_write_leaves_the_old_model(whole, tmp_path, monkeypatch):
    pipeline = whole[0].pipeline
    run_recipe.save_pipeline(pipeline, tmp_path / "model")

    def broken(self, folder):
        folder.mkdir()
        raise OSError("disk full")

    monkeypatch.setattr(SP4DPipeline, "save_pretrained", broken)
    with pytest.raises(OSError, match="disk full"):
        run_recipe.save_pipeline(pipeline, tmp_path / "model", "float16")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert SP4DPipeline.from_pretrained(tmp_path / "model") and pipeline.unet.dtype == torch.float32


def test_saving_in_half_precision_leaves_the_pipeline_as_it_was(whole, tmp_path):
    pipeline = whole[0].pipeline
    before = [p.clone() for p in pipeline.unet.parameters()]
    run_recipe.save_pipeline(pipeline, tmp_path / "model", "float16")
    assert all(torch.equal(a, b) for a, b in zip(before, pipeline.unet.parameters()))
    assert any(not torch.equal(a, a.half().float()) for a in before)


@pytest.mark.parametrize("old, new, match", [
    ("frames = 2", "frame = 2", r"\[data\] has no field 'frame'"), ("known = 0.5", "known = 2", "known"),
    ("[stages.dual]", "[stages.both]", "stages"), ("size = 16\n[model", "size = 15\n[model", "multiple"),
    ("size = 16\n[model", "size = 32\n[model", "agree"), ("size = 16\n[model", "size = \n[model", "tiny.toml"),
    ("[vae]\n", "[vae]\nlayers = 3\n", r"\[vae\] has no field 'layers'"),
    ("[data]", "[date]", r"\[data\]|\[date\]|data")])
def test_mistakes_are_named(tmp_path, old, new, match):
    assert old in RECIPE
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE.replace(old, new, 1))
    with pytest.raises(ValueError, match=match) as caught:
        read_recipe(path)
    assert "tiny.toml" in str(caught.value)


def test_a_recipe_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="mini, nano, paper"):
        read_recipe("giant")


def test_shipped_recipes_are_whole():
    assert shipped() == ["mini", "nano", "paper"]
    for name in ("nano", "mini"):
        recipe = read_recipe(name)
        assert (CONFIGS / f"{name}.toml").is_file() and recipe.name == name
        model = recipe.network()
        assert model.config.context_dim is None and model.config.out_channels == recipe.channels
    weights = sum(p.numel() for module in (model, make_vae(recipe.vae)) for p in module.parameters())
    assert 2 * weights < 15.9 * 2**20, "mini and its autoencoder in 16 bits are less than 16 MiB, headers included"
    assert read_recipe("paper").channels == 4 and read_recipe("paper").factor == 8


def test_costs_are_counted(recipe):
    counted = budget(recipe)
    model = recipe.network()
    assert counted["dual"].parameters == sum(p.numel() for p in model.parameters())
    assert counted["rgb"].parameters == sum(p.numel() for p in model.rgb.parameters())
    assert counted["dual"].state_bytes == STATE_BYTES * counted["dual"].parameters
    assert counted["dual"].sample_flops > 2 * counted["rgb"].sample_flops > 0
    assert counted["dual"].flops == 3 * counted["dual"].sample_flops * 2 * 4
    again = replace(recipe, stages={"dual": replace(recipe.stages["dual"], gradient_checkpointing=True)})
    assert budget(again)["dual"].flops == 4 * counted["dual"].sample_flops * 2 * 4


def test_the_command(recipe, whole, tmp_path, capsys):
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    _, built = whole
    common = ["train", str(path), "-o", str(tmp_path / "run"), "--data", str(built / "data"), "--device", "cpu",
              "--quiet"]
    assert cli.main([*common, "--minutes", "1e-9"]) == 0
    assert "--resume goes on" in capsys.readouterr().out
    assert cli.main(common) == 1 and "not empty" in capsys.readouterr().err
    assert cli.main([*common, "--resume"]) == 0
    said = capsys.readouterr().out
    assert "dual: 4 steps" in said and "held-out loss" in said and str(tmp_path / "run" / "model") in said
    assert (tmp_path / "run" / "model" / "model_index.json").is_file()
    assert cli.main([*common, "--minutes", "-1"]) == 1 and "--minutes" in capsys.readouterr().err


def test_the_command_tells_costs_and_does_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(RECIPE)
    assert cli.main(["train", "tiny.toml", "--budget"]) == 0
    said = capsys.readouterr().out
    assert "dual: 4 steps of 2" in said and "TFLOP" in said
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.toml"]


def test_it_tells_of_every_stage(recipe, whole, tmp_path):
    """The callback hears what the metrics hold, and may break a run off, which goes on."""
    _, out = whole
    heard = []

    def listen(stage, record):
        heard.append((stage, record))
        if len(heard) == 3:
            raise RuntimeError("power cut")

    common = dict(data=out / "data", resume=True, device="cpu", progress=False, callback=listen)
    with pytest.raises(RuntimeError, match="power cut"):
        follow(recipe, tmp_path / "run", **common)
    assert follow(recipe, tmp_path / "run", **common).finished
    for stage in ("vae", "rgb", "dual"):
        lines = [json.loads(line) for line in (tmp_path / "run" / stage / "metrics.jsonl").read_text().splitlines()]
        assert lines == [json.loads(line) for line in (out / stage / "metrics.jsonl").read_text().splitlines()]
        assert all((stage, line) in heard for line in lines)
        assert torch.load(tmp_path / "run" / stage / "checkpoint.pt", weights_only=True)["seconds"] > 0


def test_seconds_add_up_over_the_pieces_of_a_run(recipe, whole, tmp_path):
    _, out = whole
    spent = [0.0]
    for _ in range(3):
        follow(recipe, tmp_path / "run", data=out / "data", resume=True, minutes=1e-9, device="cpu", progress=False)
        spent.append(torch.load(tmp_path / "run" / "vae" / "checkpoint.pt", weights_only=True)["seconds"])
    assert spent == sorted(spent) and spent[1] < spent[2]


def start_of(recipe, folder, **stages):
    kept = {name: config for name, config in recipe.stages.items() if name != "rgb"} | stages
    return replace(recipe, model=replace(recipe.model, start=str(folder)), stages=kept)


def test_training_goes_on_from_a_saved_pipeline(recipe, whole, tmp_path):
    outcome, out = whole
    tuned = start_of(recipe, out / "model")
    for a, b in zip(tuned.network().parameters(), outcome.stages["dual"].ema.parameters()):
        assert torch.equal(a, b.half().float())
    with pytest.raises(ValueError, match="Leave .stages.rgb. out"):
        start_of(recipe, out / "model", rgb=recipe.stages["rgb"]).network()
    other = replace(tuned, model=replace(tuned.model, sizes=recipe.model.sizes | {"head_dim": 4}))
    with pytest.raises(ValueError, match="other sizes.*head_dim 8 there, 4 here"):
        other.network()
    still = replace(tuned.stages["dual"], learning_rate=1e-12, steps=1, sample_every=0)
    own = replace(tuned, stages={"dual": still}, vae=replace(recipe.vae, pretrained=str(out / "model" / "vae")))
    again = follow(own, tmp_path / "run", data=out / "data", device="cpu", progress=False)
    for a, b in zip(again.pipeline.unet.parameters(), tuned.network().parameters()):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    for a, b in zip(again.pipeline.vae.parameters(), SP4DPipeline.from_pretrained(out / "model").vae.parameters()):
        assert torch.equal(a, b)


def test_a_colour_branch_starts_both(recipe, whole, tmp_path):
    """What stage 1 leaves, saved as a pipeline of colours alone, is copied into the part branch."""
    outcome, _ = whole
    model = recipe.network()
    model.rgb.load_state_dict(outcome.stages["rgb"].ema.state_dict())
    vae = run_recipe.make_vae(recipe.vae)
    run_recipe.save_pipeline(run_recipe.make_pipeline(recipe, model.rgb, vae), tmp_path / "colours")
    begun = start_of(recipe, tmp_path / "colours", rgb=recipe.stages["rgb"]).network()
    for name, parameter in model.rgb.named_parameters():
        assert torch.equal(begun.rgb.get_parameter(name), parameter)
    assert torch.equal(begun.part.conv_in.weight, model.rgb.conv_in.weight)
    (tmp_path / "colours" / "unet" / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    with pytest.raises(ValueError, match="holds a UNet2DModel"):
        start_of(recipe, tmp_path / "colours").network()


def test_a_start_beside_the_recipe_is_found(tmp_path, whole):
    shutil.copytree(whole[1] / "model", tmp_path / "trained")
    path = tmp_path / "tiny.toml"
    text = RECIPE.replace("[model.sizes]", '[model]\nstart = "trained"\n[model.sizes]', 1)
    path.write_text(text.replace("[vae]\n", '[vae]\npretrained = "trained/vae"\n', 1))
    found = read_recipe(path)
    assert found.model.start == str(tmp_path / "trained") and found.vae.pretrained == str(tmp_path / "trained" / "vae")
    path.write_text(RECIPE.replace("[model.sizes]", '[model]\nstart = "stabilityai/sv4d2.0"\n[model.sizes]', 1))
    assert read_recipe(path).model.start == "stabilityai/sv4d2.0"


def test_windows_are_mirrored_and_recoloured_as_often_as_asked(whole):
    """The held-out ones are not: `_shown` leaves both shares at 0."""
    _, out = whole
    data = KinematicParts(out / "data", "train", 2, 2)
    plain = run_recipe.Windows(data)
    both = run_recipe.Windows(data, mirrored=1.0, recolored=1.0)
    some = run_recipe.Windows(data, mirrored=0.5)
    turned = 0
    for seed in range(30):
        first = plain.draw(torch.Generator().manual_seed(seed))
        second = both.draw(torch.Generator().manual_seed(seed))
        assert np.array_equal(second.parts[:, 0], first.parts[:, 0, :, ::-1])
        assert not np.array_equal(second.rgb[:, 0], first.rgb[:, 0, :, ::-1])
        turned += not np.array_equal(some.draw(torch.Generator().manual_seed(seed)).parts, first.parts)
    assert 5 < turned < 25


def test_a_share_is_a_share(tmp_path):
    path = tmp_path / "wrong.toml"
    path.write_text(RECIPE.replace("heldout = 1", "heldout = 1\nmirror = 1.5"))
    with pytest.raises(ValueError, match="mirror is a share"):
        read_recipe(path)
