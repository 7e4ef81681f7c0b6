"""The CC0 rigs: the list, where files come from, and what the loader makes of all of them."""

from __future__ import annotations

import functools
import json
import logging
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import node_tools
import numpy as np
import pytest
from gltf_reference import Reference

from sp4dlib import rigs
from sp4dlib.rigs import assets as registry

DRACO = [a.name for a in registry.registry().values() if a.extensions]


def test_the_list():
    listed = registry.registry()
    assert len(listed) == 102 and len(DRACO) == 10
    assert len(registry.names()) == 102 and len(registry.names(plain=True)) == 92
    parts = [registry.names(split) for split in registry.SPLITS]
    assert sorted(sum(parts, [])) == sorted(listed) and all(parts)
    assert all(len(a.sha256) == 64 and a.bytes > 0 for a in listed.values())
    assert len({a.sha256 for a in listed.values()}) == 102, "one file under two names could cross the splits"


def test_names():
    assert registry.find("Fox").name == registry.find("animals_pack/Fox").name == "animals_pack/Fox"
    with pytest.raises(registry.AssetError, match="modular_men/Punk, modular_women/Punk"):
        registry.find("Punk")
    with pytest.raises(registry.AssetError, match="no asset is named 'Unicorn'"):
        registry.find("Unicorn")
    with pytest.raises(ValueError, match="train, val, test"):
        registry.names("dev")


@pytest.fixture
def source(monkeypatch, tmp_path):
    """Set ``SP4D_ASSETS`` to something else, with an empty cache."""
    def use(value) -> None:
        monkeypatch.setenv(registry.VARIABLE, str(value))
        monkeypatch.setenv("SP4D_CACHE", str(tmp_path / "cache"))
        registry._local_root.cache_clear()
        registry._check.cache_clear()
    yield use
    registry._local_root.cache_clear()
    registry._check.cache_clear()


def pack(folder: Path, archive: Path) -> Path:
    with tarfile.open(archive, "w:xz") as tar:
        tar.add(folder, "some/where")
    return archive


@pytest.fixture
def small(assets, tmp_path) -> Path:
    """A folder with one asset."""
    folder = tmp_path / "folder"
    (folder / "fish_pack").mkdir(parents=True)
    shutil.copy(assets / "fish_pack/Fish1.glb", folder / "fish_pack")
    return folder


@pytest.mark.parametrize("kind", ["folder", "nested folder", "archive"])
def test_local_sources(small, source, tmp_path, kind, caplog):
    if kind == "nested folder":
        (tmp_path / "up").mkdir()
        small = small.rename(tmp_path / "up" / "quaternius").parent
    source(pack(small, tmp_path / "a.tar.xz") if kind == "archive" else small)
    rig = registry.load("Fish1")
    assert rig.name == "fish_pack/Fish1" and len(rig.vertices) == registry.find("Fish1").vertices
    assert registry.available("Fish1") and not registry.available("Fish1", "Fox")
    assert "animals_pack/Fox is not in SP4D_ASSETS" in caplog.text


def test_local_sources_that_fail(small, source, tmp_path):
    file = small / "fish_pack/Fish1.glb"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    for place in (small, pack(small, tmp_path / "a.tar.xz")):
        source(place)
        with pytest.raises(registry.AssetError, match="sha256 is .* delete it"):
            registry.path("Fish1")
    source(tmp_path / "nowhere")
    with pytest.raises(registry.AssetError, match="does not exist; set SP4D_ASSETS"):
        registry.path("Fish1")
    (tmp_path / "empty").mkdir()
    source(tmp_path / "empty")
    with pytest.raises(registry.AssetError, match="holds none of the packs"):
        registry.path("Fish1")
    (tmp_path / "text.tar.xz").write_text("no archive")
    source(tmp_path / "text.tar.xz")
    with pytest.raises(registry.AssetError, match="cannot unpack"):
        registry.path("Fish1")
    cache = tmp_path / "cache"
    assert not cache.exists() or not list(cache.iterdir()), "a failed unpacking leaves nothing behind"


def test_processes_may_unpack_at_the_same_time(small, tmp_path):
    archive = pack(small, tmp_path / "a.tar.xz")
    environment = {**os.environ, registry.VARIABLE: str(archive), "SP4D_CACHE": str(tmp_path / "cache")}
    code = "from sp4dlib.rigs import assets; print(assets.path('Fish1'))"
    running = [subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
               for _ in range(3)]
    out = {process.communicate(timeout=120)[0].strip() for process in running}
    assert [p.returncode for p in running] == [0, 0, 0] and len(out) == 1 and Path(out.pop()).is_file()
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_without_a_source_the_repository_is_asked(monkeypatch, tmp_path):
    import pooch
    import requests

    asked = []

    def refuse(self, url, output_file, owner):
        asked.append(url)
        raise requests.ConnectionError("no network")

    monkeypatch.delenv(registry.VARIABLE, raising=False)
    monkeypatch.setenv("SP4D_CACHE", str(tmp_path))
    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", refuse)
    with pytest.raises(registry.AssetError, match="cannot download fish_pack/Fish1.*set SP4D_ASSETS"):
        registry.path("Fish1")
    index = json.loads((Path(rigs.__file__).parent / "quaternius.json").read_text())
    assert asked == [f"https://raw.githubusercontent.com/trebeljahr/quaternius-showcase/{index['commit']}/"
                     "public/glb/fish_pack/Fish1.glb"]


def test_command_line(small, source, capsys):
    source(small)
    assert registry.main(["list", "--split", "val"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(registry.names("val")) and "animals_pack/Alpaca" in lines[0]
    assert registry.main(["fetch"]) == 1
    assert "is not in SP4D_ASSETS" in capsys.readouterr().err


@pytest.fixture(scope="module")
def all_rigs(assets) -> dict[str, rigs.Rig]:
    """All 102 rigs, those under Draco compression too."""
    return {name: registry.load(name) for name in registry.names()}


def test_all_rigs_load_and_pose(all_rigs):
    for name, rig in all_rigs.items():
        assert len(rig.vertices) == registry.registry()[name].vertices
        assert np.abs(rig.weights.sum(1) - 1).max() < 1e-9, name
        assert np.isfinite(rig.skeleton.bind).all() and len(set(rig.skeleton.names)) == len(rig.skeleton)
        moving = [a for a in rig.animations if a.name != "rest"]
        assert len(moving) == registry.registry()[name].animations, name
        for animation in moving[:3] + [a for a in rig.animations if a.name == "rest"]:
            posed = rig.pose(animation, [0.37 * animation.duration])
            assert np.isfinite(posed).all(), (name, animation.name)
            assert 0.3 < np.ptp(posed[0], axis=0).max() / rig.size < 3, (name, animation.name)


def test_conventions_that_the_files_break_differently(all_rigs):
    rests = sum(any(a.name == "rest" for a in rig.animations) for rig in all_rigs.values())
    assert rests == 80, "rigs whose default node pose is not the bind pose"
    assert sum(rig.skeleton.names[0] == "root" and not rig.weights[:, 0].any() and rig.skeleton.bind[0].tolist()
               == np.eye(4).tolist() for rig in all_rigs.values()) == 22, "rigs with several root joints"
    upright = {"animals_pack/Horse": 1, "modular_men/Suit": 1, "platformer_game_pack/Character": 1}
    for name, axis in upright.items():
        rig = all_rigs[name]
        assert rig.vertices[:, axis].min() == pytest.approx(0, abs=0.02 * rig.size), f"{name} stands on y = 0"
    assert all_rigs["modular_men/Suit"].size == pytest.approx(1.86, abs=0.05), "scene units are metres here"


@pytest.mark.parametrize("name", ["platformer_game_pack/Bee", "modular_women/Adventurer"])
def test_weights_that_are_not_numbers_are_counted_once(assets, name, caplog):
    with caplog.at_level(logging.WARNING):
        rig = registry.load(name)
    assert sum("no usable weights" in r.message for r in caplog.records) == 1
    assert np.isfinite(rig.weights).all()


@pytest.mark.parametrize("name", DRACO)
def test_draco_meshes_fill_the_boxes_that_their_files_state(assets, all_rigs, name):
    """Bounds and counts in the JSON were written before compression, and know nothing of the decoder."""
    file, rig = reference_of(assets / f"{name}.glb"), all_rigs[name]
    primitives = [p for n in file.gltf.nodes if n.mesh is not None for p in file.gltf.meshes[n.mesh].primitives]
    stated = [file.gltf.accessors[p.attributes.POSITION] for p in primitives]
    raw = np.split(file.raw(), np.cumsum([a.count for a in stated])[:-1])
    for accessor, points in zip(stated, raw):
        size = np.ptp([accessor.min, accessor.max], axis=0).max()
        np.testing.assert_allclose([points.min(0), points.max(0)], [accessor.min, accessor.max], atol=1e-3 * size)
    assert len(rig.vertices) == sum(a.count for a in stated)
    assert 3 * len(rig.faces) == sum(file.gltf.accessors[p.indices].count for p in primitives)
    assert (rig.weights > 0).sum(1).max() > 1 and rig.appearance.uv is not None
    assert all(m.texture is not None for m in rig.appearance.materials)


@pytest.mark.parametrize("name, parts", [("tank_pack/Tank", ("Tank_Gun", "Tank_Turret")),
                                         ("tank_pack/Tank2", ("Tank_Gun", "Tank_Turret")),
                                         ("tank_pack/Tank3", ("Tank_Gun", "Tank_Turret")),
                                         ("platformer_game_pack/Character_Gun", ("Gun",)),
                                         ("ultimate_space_pack/Astronaut_FinnTheFrog-transformed", ("Pistol",))])
def test_rigid_parts_are_joints(all_rigs, name, parts):
    rig = all_rigs[name]
    for part in parts:
        bears = rig.weights[:, rig.skeleton.names.index(part)]
        assert bears.sum() > 50 and set(np.unique(bears)) == {0.0, 1.0}
    # The tanks' gun and turret hang on nothing and no animation moves them; a weapon hangs on a hand.
    holder = rig.skeleton.parents[rig.skeleton.names.index(parts[0])]
    assert (rig.skeleton.names[holder] == "root") == name.startswith("tank")


# Animal with five roots; several skins, one part without; three roots, no armature turn; z-up; skins in other spaces;
# parts on nothing; under Draco with a part on a joint; under Draco with several roots.
REFERENCE = {"animals_pack/Fox": 5, "platformer_game_pack/Character_Gun": 3, "mech_pack/George": 2,
             "cute_fish_pack/Goldfish": 4, "cyberpunk_pack/Enemy_2Legs_Gun": 5, "dinosaurs_pack/Trex": 1,
             "single_knight_pack/KnightCharacter": 4, "tank_pack/Tank": 1,
             "ultimate_space_pack/Astronaut_FinnTheFrog-transformed": 6,
             "ultimate_space_pack/Mech_RaeTheRedPanda-transformed": 2}


@functools.cache
def reference_of(path: Path) -> Reference:
    return Reference(path)


@pytest.mark.parametrize("name", REFERENCE)
def test_poses_agree_with_an_independent_reader(assets, all_rigs, name):
    rig, reference = all_rigs[name], reference_of(assets / f"{name}.glb")
    index = REFERENCE[name]
    animation = rig.animations[index]
    assert animation.name == reference.gltf.animations[index].name
    times = np.array([0.21, 0.68]) * animation.duration
    expected = np.stack([reference.positions(index, t) for t in times])
    size = np.ptp(expected[0], axis=0).max()
    assert np.abs(expected[1] - expected[0]).max() > 1e-3 * size, "this animation must move"
    assert np.abs(rig.pose(animation, times) - expected).max() < 1e-5 * size
    if any(a.name == "rest" for a in rig.animations):
        assert np.abs(rig.pose("rest", [0])[0] - reference.positions(None, 0)).max() < 1e-5 * size


def test_the_compared_rigs_are_the_hard_ones(assets, all_rigs):
    files = {name: reference_of(assets / f"{name}.glb") for name in REFERENCE}
    assert sum(len(f.gltf.skins) > 1 for f in files.values()) >= 2
    assert sum(all_rigs[name].skeleton.names[0] == "root" for name in files) >= 2
    raw, stood = files["animals_pack/Fox"].raw(), all_rigs["animals_pack/Fox"].vertices
    share = np.ptp(raw, axis=0) / np.ptp(raw, axis=0).max()
    np.testing.assert_allclose(share[[0, 2, 1]], np.ptp(stood, axis=0) / np.ptp(stood, axis=0).max(), atol=0.01)
    assert np.abs(share - share[[0, 2, 1]]).max() > 0.1, "the file is z-up, the rig is not"


def test_all_rigs_survive_a_round_trip(all_rigs, tmp_path):
    from test_rigs_gltf import equal

    for rig in all_rigs.values():
        rig = rig.replace(animations=rig.animations[-2:])       # the last is `rest`
        back = rigs.load(rigs.save(rig, tmp_path / "rig.glb"))
        equal(rig, back)
        assert len(rig.appearance.materials) == len(back.appearance.materials)
        np.testing.assert_array_equal(rig.appearance.face_material, back.appearance.face_material)


@pytest.fixture(scope="module")
def validator():
    """Run the Khronos validator on files; returns its reports."""
    node_tools.install("gltf-validator")
    return node_tools.validate


def test_validator_sees_errors(validator, tmp_path):
    """The check that the check can fail."""
    rig = rigs.quadruped(vertices=1000)
    content = bytearray(rigs.save(rig, tmp_path / "animal.glb").read_bytes())
    at = content.find(b'"componentType":5126')
    content[at:at + 20] = b'"componentType":5125'
    (tmp_path / "animal.glb").write_bytes(content)
    assert validator([tmp_path / "animal.glb"])[0]["errors"] > 0


def test_saved_procedural_and_sample_files_are_valid(validator, tmp_path):
    from gltf_samples import bar
    from test_rigs_gltf import random_rig, two_skins

    made = [rigs.quadruped(seed, vertices=1000) for seed in (None, 1)]
    made += [random_rig(np.random.default_rng(seed), 2 + seed, 1 + seed) for seed in range(8)]
    made += [rigs.load(sample.write(tmp_path / "s")) for sample in (bar(), two_skins(True))]
    files = [rigs.save(rig, tmp_path / f"{i}.glb") for i, rig in enumerate(made)]
    for report in validator(files):
        assert report["errors"] == 0, report["messages"]


def test_saved_real_rigs_are_valid(validator, all_rigs, tmp_path):
    names = [*REFERENCE, "platformer_game_pack/Bee", "tank_pack/Tank", "platformer_game_pack/Lever"]
    files = [rigs.save(all_rigs[name], tmp_path / f"{i}.glb") for i, name in enumerate(names)]
    for name, report in zip(names, validator(files)):
        assert report["errors"] == 0 and report["warnings"] == 0, (name, report["messages"])


def test_loading_and_posing_are_quick(all_rigs):
    """Generous bounds, an order from what is measured: they catch an accidental quadratic, not a busy machine."""
    start = time.process_time()
    for name in registry.names("val"):
        registry.load(name)
    assert (time.process_time() - start) / len(registry.names("val")) < 1.0
    rig = all_rigs["animals_pack/Cow"]
    rig.pose(0, [0])
    start = time.process_time()
    rig.pose(0, np.linspace(0, 1, 64))
    assert time.process_time() - start < 1.0
