"""Building training sets: what is left out and why, and the same bytes however often the work was interrupted."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from clips_folders import SMALL, contents, folder_config, write_rigs
from clips_rigs import arm

from sp4dlib import rigs
from sp4dlib.clips import MergeRule, Source, build_set, check_set
from sp4dlib.clips import build as building
from sp4dlib.clips.shards import file_hash, index_path

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rigs")
    write_rigs(folder, 6)
    return folder


@pytest.fixture(scope="module")
def built(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("sets") / "set"
    return out, build_set(folder_config(folder), out, progress=False)


def reports(out: Path) -> dict[str, dict]:
    return {each["key"]: each for each in json.loads((out / "report.json").read_text())["objects"]}


def test_what_is_built(built):
    out, manifest = built
    assert [s["file"] for s in manifest["shards"]] == [f"{split}-000000.tar" for split in ("train", "val", "test")]
    assert manifest["summary"]["objects_kept"] == 6 and manifest["summary"]["clips_kept"] == 6
    assert manifest["summary"]["splits"]["val"]["licences"] == {"CC0-1.0": 2}
    assert list(manifest["summary"]["renderers"].values()) == [6]
    assert not out.with_name("set.part").exists()
    for shard in manifest["shards"]:
        assert file_hash(out / shard["file"]) == shard["sha256"]
        assert file_hash(index_path(out / shard["file"])) == shard["index_sha256"]
    assert {name: file_hash(out / name) for name in manifest["files"]} == manifest["files"]
    card = (out / "README.md").read_text()
    assert "| folder | 6 | 6 | 6 |" in card and "CC0-1.0 (6)" in card and "near-duplicate" not in card
    assert check_set(out) == []


def test_any_number_of_workers_gives_the_same_bytes(built, folder, tmp_path):
    build_set(folder_config(folder), tmp_path / "set", workers=2, progress=False)
    assert contents(tmp_path / "set") == contents(built[0])


def test_a_build_that_is_there_is_not_built_again(built, folder, monkeypatch):
    monkeypatch.setattr(building, "make_object", None)
    assert build_set(folder_config(folder), built[0]) == built[1]
    with pytest.raises(ValueError, match="another configuration"):
        build_set(folder_config(folder, seed=1), built[0])


def test_another_seed_gives_other_pictures(built, folder, tmp_path):
    build_set(folder_config(folder, seed=1), tmp_path / "set", progress=False)
    ours, theirs = contents(tmp_path / "set"), contents(built[0])
    assert ours.keys() == theirs.keys() and ours["train-000000.tar"] != theirs["train-000000.tar"]


def test_killed_twice_and_still_the_same(tmp_path):
    """A process that is killed with work half done, twice; the third finishes, with the bytes of an undisturbed one."""
    write_rigs(tmp_path / "rigs", 16)
    config = folder_config(tmp_path / "rigs", clips=replace(SMALL, size=48, frames=8, views=4))
    (tmp_path / "set.json").write_text(json.dumps(config.to_dict()))
    command = [sys.executable, "-m", "sp4dlib", "data", "build", "--config", str(tmp_path / "set.json"), "-o",
               str(tmp_path / "set"), "--quiet", "--workers"]
    made = []
    for workers in ("1", "0"):
        process = subprocess.Popen([*command, workers], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wanted = len(list(tmp_path.glob("set.part/objects/*/*.json"))) + 3
        while process.poll() is None and len(list(tmp_path.glob("set.part/objects/*/*.json"))) < wanted:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it ended before it was killed"
        made.append(len(list(tmp_path.glob("set.part/objects/*/*.json"))))
    assert 3 <= made[0] < made[1] < 16 and not (tmp_path / "set").exists()
    build_set(config, tmp_path / "set", progress=False)
    build_set(config, tmp_path / "undisturbed", progress=False)
    assert contents(tmp_path / "set") == contents(tmp_path / "undisturbed")


def test_stopped_between_shards(built, folder, tmp_path, monkeypatch):
    write = building.write_shard

    def stops(path, clips, views):
        if path.name.startswith("val"):
            raise KeyboardInterrupt
        return write(path, clips, views)

    monkeypatch.setattr(building, "write_shard", stops)
    with pytest.raises(KeyboardInterrupt):
        build_set(folder_config(folder), tmp_path / "set", progress=False)
    monkeypatch.setattr(building, "write_shard", write)
    monkeypatch.setattr(building, "make_object", None)                  # all objects were made
    build_set(folder_config(folder), tmp_path / "set", progress=False)
    assert contents(tmp_path / "set") == contents(built[0])


def test_unfinished_work_of_another_configuration_is_kept(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(building, "_curated", None)
    with pytest.raises(TypeError):
        build_set(folder_config(folder), tmp_path / "set", progress=False)
    with pytest.raises(ValueError, match="unfinished work of another configuration"):
        build_set(folder_config(folder, seed=5), tmp_path / "set", progress=False)
    assert len(list(tmp_path.glob("set.part/objects/*/*.json"))) == 6


def test_two_builders_do_not_meet(folder, tmp_path):
    with building._claimed(tmp_path / "set.part"), pytest.raises(BlockingIOError, match="another process"):
        build_set(folder_config(folder), tmp_path / "set", progress=False)


def test_damaged_files_are_named_and_skipped(built, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "rigs")
    good = (folder / "pack0" / "arm0.glb").read_bytes()
    for name, data in (("cut", good[:len(good) // 2]), ("empty", b""), ("text", b"not a rig at all" * 9)):
        (tmp_path / "rigs" / "pack0" / f"{name}.glb").write_bytes(data)
    manifest = build_set(folder_config(tmp_path / "rigs"), tmp_path / "set", workers=1, progress=False)
    assert manifest["summary"]["objects_dropped"] == {"unreadable": 3}
    found = reports(tmp_path / "set")
    for name in ("cut", "empty", "text"):
        assert found[f"folder/pack0/{name}"]["reason"] == "unreadable"
        assert f"{name}.glb" in found[f"folder/pack0/{name}"]["detail"]
    texts = [data for name, data in contents(tmp_path / "set").items() if not name.endswith((".tar", ".npz"))]
    assert not any(str(tmp_path).encode() in data for data in texts), "a set says nothing of where it was built"
    for name in ("train-000000.tar", "val-000000.tar", "test-000000.tar"):
        assert file_hash(tmp_path / "set" / name) == file_hash(built[0] / name), "the rest is unharmed"
    assert check_set(tmp_path / "set") == []


def test_curating(tmp_path):
    """Too many parts, one part, no motion, no animation, the same file, nearly the same."""
    write_rigs(tmp_path / "pack1", 1)
    shown = arm((1.0, 1.2, 0.8), seed=1)
    wave = shown.animations[0]
    still = replace(wave, tracks=())
    for name, rig in (("shown", shown), ("still", shown.replace(animations=(still,))),
                      ("bare", shown.replace(animations=())), ("one", arm((1.0,))),
                      ("many", arm((1.0,) * 12)), ("slow", shown.replace(animations=(replace(wave, name="again"),)))):
        (tmp_path / "pack0").mkdir(exist_ok=True)
        rigs.save(rig, tmp_path / "pack0" / f"{name}.glb")
    shutil.copy(tmp_path / "pack0" / "shown.glb", tmp_path / "pack0" / "copy.glb")
    config = folder_config(tmp_path, parts=MergeRule(motion=0, max_parts=10))
    build_set(config, tmp_path / "set", progress=False)
    found = {key.rsplit("/", 1)[-1]: (each["status"], each["reason"])
             for key, each in reports(tmp_path / "set").items()}
    assert found == {"copy": ("kept", ""), "shown": ("dropped", "same file"), "slow": ("dropped", "near-duplicate"),
                     "still": ("dropped", "static"), "bare": ("dropped", "unanimated"), "one": ("dropped", "one part"),
                     "many": ("dropped", "too many parts"), "arm0": ("kept", "")}


def test_of_twins_in_two_splits_the_tested_one_stays(tmp_path):
    for pack in ("pack0", "pack1", "pack2"):
        (tmp_path / pack).mkdir()
        rigs.save(arm((1.0, 1.2, 0.8), seed=1), tmp_path / pack / "arm.glb")
    rigs.save(arm((1.0, 0.4)), tmp_path / "pack0" / "other.glb")
    build_set(folder_config(tmp_path), tmp_path / "set", progress=False)
    found = {key: each["status"] for key, each in reports(tmp_path / "set").items()}
    assert found == {"folder/pack0/arm": "dropped", "folder/pack0/other": "kept", "folder/pack1/arm": "dropped",
                     "folder/pack2/arm": "kept"}


def test_of_twins_the_source_named_first_counts(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "pack").mkdir(parents=True)
        rigs.save(arm((1.0, 1.2, 0.8), seed=1), tmp_path / name / "pack" / "arm.glb")
    sources = tuple(Source("folder", name, str(tmp_path / name)) for name in ("b", "a"))
    build_set(folder_config(tmp_path, sources=sources), tmp_path / "set", progress=False)
    assert {key: each["reason"] for key, each in reports(tmp_path / "set").items()} \
        == {"a/pack/arm": "same file", "b/pack/arm": ""}


def test_an_object_alone_is_what_it_is_among_others(built, folder, tmp_path):
    shutil.copytree(folder / "pack1", tmp_path / "rigs" / "pack1")
    build_set(folder_config(tmp_path / "rigs"), tmp_path / "set", progress=False)
    assert (tmp_path / "set" / "val-000000.tar").read_bytes() == (built[0] / "val-000000.tar").read_bytes()


def test_shards_have_a_size(tmp_path):
    write_rigs(tmp_path, 2)
    config = folder_config(tmp_path, clips=replace(SMALL, size=128, frames=12, views=12), shard_mb=1)
    config = replace(config, sources=(replace(config.sources[0], splits={}),))
    manifest = build_set(config, tmp_path / "set", progress=False)
    clips = sum(shard["clips"] for shard in manifest["shards"])
    assert clips == 2 and all(shard["bytes"] <= 10**6 or shard["clips"] == 1 for shard in manifest["shards"])


def test_nothing_left(tmp_path):
    (tmp_path / "pack0").mkdir()
    rigs.save(arm((1.0,)), tmp_path / "pack0" / "one.glb")
    with pytest.raises(ValueError, match="nothing is left to build a set from: 1 x one part"):
        build_set(folder_config(tmp_path), tmp_path / "set", progress=False)


def damaged_set(built, tmp_path, name: str, change) -> list[str]:
    """Problems of a copy of a set in which one file was changed."""
    out = tmp_path / "copy"
    shutil.copytree(built[0], out)
    data = (out / name).read_bytes()
    changed = change(data)
    (out / name).unlink() if changed is None else (out / name).write_bytes(changed)
    return check_set(out)


@pytest.mark.parametrize("name, change, words", [
    ("train-000000.tar", lambda d: None, ["missing", "in no shard"]),
    ("train-000000.tar", lambda d: d[:3000] + bytes([d[3000] ^ 1]) + d[3001:], ["sha256 differs"]),
    ("val-000000.tar", lambda d: d[:-3000], ["sha256 differs"]),
    ("val-000000.index.npz", lambda d: d[:50], ["sha256 differs", "cannot be read"]),
    ("README.md", lambda d: d + b"!", ["README.md", "sha256 differs"]),
    ("report.json", lambda d: d.replace(b'"split": "val"', b'"split": "train"', 1),
     ["pack1 is in 2 splits", "belongs to train"]),
])
def test_check_names_what_is_wrong(built, tmp_path, name, change, words):
    problems = damaged_set(built, tmp_path, name, change)
    assert problems and all(any(word in problem for problem in problems) for word in words)


def test_check_sees_strangers_and_wrong_ids(built, tmp_path, monkeypatch):
    out = tmp_path / "copy"
    shutil.copytree(built[0], out)
    (out / "notes.txt").write_text("mine")
    assert check_set(out, pictures=False) == ["notes.txt: is no part of the set"]
    from sp4dlib.clips import check

    real = check.read_clip

    def reads(*args):
        clip = real(*args)
        return replace(clip, parts=np.where(clip.parts >= 0, clip.parts + 50, -1).astype(np.int16))

    monkeypatch.setattr(check, "read_clip", reads)
    assert sum("parts, and shows id" in problem for problem in check_set(built[0])) == 6


def test_the_asset_rigs_with_draco_and_all(assets, tmp_path):
    """The val rigs: each is kept, or left out for a reason that is true of it."""
    config = folder_config(tmp_path, sources=(Source("assets", "quaternius", split="val"),), per_object=1)
    build_set(config, tmp_path / "set", progress=False)
    found = reports(tmp_path / "set")
    assert len(found) == 8 and {each["status"] for each in found.values()} == {"kept", "dropped"}
    for each in found.values():
        if each["status"] == "dropped":
            assert each["reason"] == "unanimated" and each["animations"] == 0
