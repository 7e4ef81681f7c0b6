"""``sp4d rig``: from a mesh to an animated file, and what it says when something is wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
import trimesh
from diffusion_toys import tiny_model
from PIL import Image

from sp4dlib import cli, rigs
from sp4dlib.clips import kinematic_parts, make_clip
from sp4dlib.diffusion import shipped
from sp4dlib.diffusion.pipeline import SP4DPipeline
from sp4dlib.diffusion.samplers import euler_scheduler

AZIMUTHS = [0, 60, 120, 180, 240, 300]


@pytest.fixture(scope="module")
def animal():
    return rigs.quadruped()


@pytest.fixture(scope="module")
def clip(animal):
    return make_clip(animal, None, [0.0], AZIMUTHS, [0, 30, -20, 0, 30, -20], 128)


@pytest.fixture
def mesh(animal, tmp_path):
    """The animal's surface alone, as another program would save it."""
    path = tmp_path / "animal.ply"
    trimesh.Trimesh(animal.vertices, animal.faces, process=False).export(path)
    return str(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    SP4DPipeline(tiny_model().eval(), euler_scheduler(20.0), image_size=32, num_frames=1, num_inference_steps=2,
                 azimuths=[0, 90, 180, 270]).save_pretrained(folder)
    return str(folder)


def run(*words):
    return cli.main(["rig", *map(str, words)])


def test_a_clip_of_parts(animal, clip, mesh, tmp_path, capsys):
    """Parts that were rendered from the rig come back as its joints, with the artist's names."""
    clip.save(tmp_path / "clip.npz")
    out = tmp_path / "new" / "rig.glb"
    assert run(mesh, "--parts", tmp_path / "clip.npz", "-o", out, "--animate") == 0
    assert sorted(p.name for p in out.parent.iterdir()) == ["rig.glb", "rig.json"], "nothing is left beside them"
    made, report = rigs.load(out), json.loads(out.with_suffix(".json").read_text())
    truth = kinematic_parts(animal)
    carrying = [name for j, name in enumerate(made.skeleton.names) if made.weights[:, j].any()]
    assert sorted(carrying) == sorted(truth.names) == sorted(report["parts"])
    assert sum(report["parts"].values()) == pytest.approx(1, abs=0.01)
    winner = np.array(made.skeleton.names)[made.weights.argmax(1)]
    assert len(winner) == len(animal.vertices)
    assert np.mean(winner == np.array(truth.names)[truth.labels]) > 0.9
    assert [a.name for a in made.animations] == ["wiggle"]
    assert report["unweighted_vertices"] == 0 and report["silhouette_overlap"] > 0.95
    assert report["options"]["parts"] == str(tmp_path / "clip.npz")
    assert str(out) in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["colours", "ids"])
def test_a_folder_of_pictures(clip, mesh, tmp_path, kind):
    folder = tmp_path / "views"
    folder.mkdir()
    for view in range(len(AZIMUTHS)):
        picture = clip.part_images[0, view] if kind == "colours" else (clip.parts[0, view] + 1).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{view}.png")
    about = {"azimuths": AZIMUTHS, "elevations": clip.cameras.elevations.tolist(), "fill": clip.cameras.fill}
    (folder / "cameras.json").write_text(json.dumps(about))
    out = tmp_path / "rig.glb"
    assert run(mesh, "--parts", folder, "-o", out) == 0
    made, report = rigs.load(out), json.loads(out.with_suffix(".json").read_text())
    assert len(report["parts"]) == len(np.unique(clip.parts[clip.parts >= 0]))
    assert not made.animations, "motion is written only when it is asked for"
    assert run(mesh, "--parts", folder, "-o", tmp_path / "turned.glb", "--front", "90") == 1


def test_a_model_segments_the_mesh(model, mesh, tmp_path):
    """With a network that knows nothing the parts are noise, but they lie on the mesh and the file is whole."""
    picture = tmp_path / "photo.png"
    Image.fromarray(np.pad(np.full((20, 12, 3), [200, 90, 30], np.uint8), [(6, 6), (10, 10), (0, 0)],
                           constant_values=255)).save(picture)
    for name in ("a", "b"):
        assert run(mesh, "--model", model, "-o", tmp_path / f"{name}.glb", "--num-parts", 3, "--quiet", "--image",
                   picture) == 0
    assert (tmp_path / "a.glb").read_bytes() == (tmp_path / "b.glb").read_bytes()
    colors = rigs.load(tmp_path / "a.glb").appearance.vertex_colors
    assert colors is not None and np.all(colors[:, 0] > colors[:, 2])
    assert json.loads((tmp_path / "a.json").read_text())["views"] == 4


def test_known_views_are_the_renders(model, animal):
    """What comes back in colour is what was drawn, and the cameras are those of the drawings."""
    import torch

    from sp4dlib.clips import render
    from sp4dlib.diffusion import segment_mesh

    pipeline = SP4DPipeline.from_pretrained(model)
    pipeline.set_progress_bar_config(disable=True)
    result = segment_mesh(pipeline, animal, front=30.0, generator=torch.Generator().manual_seed(0), num_parts=2)
    rgb, ids = render(animal.vertices[None], animal.faces, np.zeros(len(animal.vertices), int), result.cameras,
                      animal.appearance)
    near_white = rgb.mean(-1) > 250                     # what the pipeline takes for background
    difference = np.abs(result.rgb.astype(int) - rgb)[~near_white]
    assert difference.max() <= 2, difference.max()
    assert (result.rgb[near_white] >= 240).all()
    assert result.cameras.azimuths.tolist() == [0, 90, 180, 270]
    border = np.concatenate([(ids >= 0)[..., [0, -1]].ravel(), (ids >= 0)[..., [0, -1], :].ravel()])
    assert not border.any(), "the object stays within the pictures"


def test_views_without_a_mesh(clip, tmp_path):
    """A folder of `sp4d generate`: the hull of its views is the mesh, and it is painted."""
    folder = tmp_path / "generated"
    folder.mkdir()
    np.savez_compressed(folder / "parts.npz", rgb=clip.rgb, parts=clip.parts, azimuths=clip.cameras.azimuths,
                        elevations=clip.cameras.elevations)
    (folder / "settings.json").write_text(json.dumps({"cameras": {"fill": clip.cameras.fill}}))
    out = tmp_path / "hull.glb"
    assert run(folder, "-o", out, "--animate", "--resolution", 48) == 0
    made = rigs.load(out)
    assert trimesh.Trimesh(made.vertices, made.faces).is_watertight
    report = json.loads(out.with_suffix(".json").read_text())
    assert len(report["parts"]) >= 0.7 * len(np.unique(clip.parts[clip.parts >= 0]))
    assert made.appearance.vertex_colors is not None and report["unweighted_vertices"] == 0


def test_a_picture(model, tmp_path):
    """An untrained network makes white noise, in which there is no object: this one leans towards a grey."""
    import torch

    pipeline = SP4DPipeline.from_pretrained(model)
    with torch.no_grad():
        pipeline.unet.part.conv_out.bias.fill_(0.7)
    pipeline.save_pretrained(tmp_path / "grey")
    picture = tmp_path / "photo.png"
    drawn = np.pad(np.full((20, 12, 3), 90, np.uint8), [(6, 6), (10, 10), (0, 0)], constant_values=255)
    Image.fromarray(drawn).save(picture)
    status = run(picture, "--model", tmp_path / "grey", "-o", tmp_path / "photo.glb", "--tolerance", 1,
                 "--resolution", 32, "--num-parts", 2, "--quiet")
    assert status == 0 and len(rigs.load(tmp_path / "photo.glb").faces)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_a_skeleton(animal, mesh, tmp_path, scale):
    """Bones of a rig in another place and size are fitted; its motion comes along."""
    moved = cli_moved(animal, scale)
    rigs.save(moved, tmp_path / "bones.glb")
    out = tmp_path / "rig.glb"
    words = [mesh, "--skeleton", tmp_path / "bones.glb", "-o", out, "--animate"]
    assert run(*words, *(["--fit"] if scale != 1 else [])) == 0
    made = rigs.load(out)
    assert made.skeleton.names == animal.skeleton.names
    assert np.allclose(made.skeleton.joints, animal.skeleton.joints, atol=1e-4 * animal.size)
    name = animal.animations[0].name
    times = np.linspace(0, animal.animation(name).duration, 5)
    error = np.linalg.norm(made.pose(name, times) - animal.pose(name, times), axis=-1)
    assert error.mean() < 0.02 * animal.size and made.weights.min() >= 0
    if scale != 1:
        assert run(*words, "--overwrite") == 1, "without --fit the bones lie outside"


def test_a_skeleton_without_motion_wiggles(animal, mesh, tmp_path):
    rigs.save(animal.replace(animations=()), tmp_path / "bones.glb")
    for words, expected in ((["--animate"], ["wiggle"]), ([], [])):
        out = tmp_path / f"rig{len(words)}.glb"
        assert run(mesh, "--skeleton", tmp_path / "bones.glb", "-o", out, *words) == 0
        assert [animation.name for animation in rigs.load(out).animations] == expected
        assert list(json.loads(out.with_suffix(".json").read_text())["animations"]) == expected


def cli_moved(rig, scale):
    """The rig, scaled and moved."""
    from sp4dlib.cli_rig import fit_skeleton

    return rig if scale == 1 else fit_skeleton(rig, rigs.Mesh(scale * rig.vertices + [9.0, 0, 0], rig.faces))


def test_without_parts_the_model_of_the_repository_makes_them(model, mesh, tmp_path, monkeypatch):
    monkeypatch.delenv("SP4D_MODEL", raising=False)
    monkeypatch.setattr(shipped, "MINI", Path(model))
    common = ["--num-parts", 3, "--quiet"]
    assert run(mesh, "-o", tmp_path / "a.glb", *common) == 0
    assert run(mesh, "-o", tmp_path / "b.glb", "--model", model, *common) == 0
    assert (tmp_path / "a.glb").read_bytes() == (tmp_path / "b.glb").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text())["options"]["model"] == model


def test_errors(mesh, model, clip, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("SP4D_MODEL", raising=False)
    monkeypatch.setattr(shipped, "MINI", tmp_path / "mini")
    clip.save(tmp_path / "clip.npz")
    (tmp_path / "empty").mkdir()
    (tmp_path / "there.glb").write_bytes(b"")
    (tmp_path / "photo.png").write_bytes(b"")
    good = ["--parts", str(tmp_path / "clip.npz")]
    out = ["-o", str(tmp_path / "out.glb")]
    cases = [([mesh, *good, "-o", str(tmp_path / "out.fbx")], "ends in .glb"),
             ([mesh, *good, "-o", str(tmp_path / "there.glb")], "--overwrite"),
             ([str(tmp_path / "none.obj"), *good, *out], "no such file"),
             ([mesh, *out], "--model"),
             ([mesh, *good, "--model", model, *out], "does not go with"),
             ([str(tmp_path / "photo.png"), *out], "pip install -e ."),
             ([str(tmp_path / "empty"), *out], "no part images"),
             ([str(tmp_path / "empty"), *good, *out], "is no mesh"),
             ([mesh, *good, "--fit", *out], "--skeleton"),
             ([mesh, *good, "--image", "a.png", *out], "--image goes"),
             ([str(tmp_path / "photo.png"), "--image", "a.png", *out], "--image goes"),
             ([mesh, *good, "--influences", "0", *out], "at least 1"),
             ([mesh, "--parts", str(tmp_path / "photo.png"), *out], "no part images")]
    for words, said in cases:
        assert cli.main(["rig", *words]) == 1, words
        assert said in capsys.readouterr().err, words
    assert not (tmp_path / "out.glb").exists()
