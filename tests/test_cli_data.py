"""``sp4d data``: build, check, show, and what they say when something is wrong."""

import json

import numpy as np
import pytest
from clips_folders import contents, write_rigs
from PIL import Image

from sp4dlib import cli

SMALL = ["--size", "32", "--frames", "3", "--views", "2", "--quiet", "--workers", "0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rigs")
    write_rigs(folder, 4)
    (folder / "pack0" / "broken.glb").write_bytes(b"glTF")
    return folder


@pytest.fixture(scope="module")
def built(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("sets") / "set"
    assert cli.main(["data", "build", str(folder), "-o", str(out), "--licence", "CC0-1.0", *SMALL]) == 0
    return out


def test_build_says_what_it_did(folder, tmp_path, capsys):
    out = tmp_path / "set"
    assert cli.main(["data", "build", str(folder), "-o", str(out), *SMALL]) == 0
    said = capsys.readouterr().out
    assert "4 clips of 4 objects, 3 frames x 2 views of 32 pixels" in said and "left out: 1 objects, unreadable" in said
    report = json.loads((out / "report.json").read_text())
    assert [each["reason"] for each in report["objects"]] == ["", "", "unreadable", "", ""]


def test_options_override_the_file(folder, tmp_path):
    text = {"name": "mine", "clips": {"size": 512, "frames": 3, "views": 2},
            "sources": [{"kind": "folder", "name": "a", "path": str(folder)}]}
    (tmp_path / "set.json").write_text(json.dumps(text))
    command = ["data", "build", "--config", str(tmp_path / "set.json"), "-o", str(tmp_path / "set"), "--size", "16",
               "--seed", "5", "--invented", "1", "--quiet", "--workers", "0", str(folder)]
    assert cli.main(command) == 0
    config = json.loads((tmp_path / "set" / "manifest.json").read_text())["config"]
    assert (config["name"], config["seed"], config["clips"]["size"], len(config["sources"])) == ("mine", 5, 16, 2)
    assert config["invented"] == 1
    made = json.loads((tmp_path / "set" / "report.json").read_text())["objects"]
    assert any(clip["animation"] == "invented 0" for each in made for clip in each["clips"])


def test_check(built, tmp_path, capsys):
    assert cli.main(["data", "check", str(built)]) == 0
    assert "whole; 4 clips of 4 objects" in capsys.readouterr().out
    (built / "stranger").write_text("")
    assert cli.main(["data", "check", str(built), "--quick"]) == 1
    said = capsys.readouterr()
    assert "stranger: is no part of the set" in said.out and "1 problem" in said.err
    (built / "stranger").unlink()


def test_show(built, tmp_path, capsys):
    before = contents(built)
    assert cli.main(["data", "show", str(built), "-o", str(tmp_path / "sheet.png"), "--clips", "3"]) == 0
    said = capsys.readouterr().out
    assert "4 of 5 objects" in said and "CC0-1.0" in said and "wave, 3 parts" in said
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (3 * 34 - 2, 6 * 34 - 2, 3) and (sheet < 250).any()
    assert contents(built) == before
    assert cli.main(["data", "show", str(built), "--clips", "1"]) == 0 and built.with_name("set.png").exists()


@pytest.mark.parametrize("words, message", [
    (["build", "-o", "set"], "say what to build from"),
    (["build", "nowhere", "-o", "set"], "no source"),
    (["build", "--config", "none.json", "-o", "set"], "none.json"),
    (["check", "nowhere"], "holds no training set"),
    (["show", "nowhere"], "holds no training set"),
])
def test_mistakes_are_said_in_a_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["data", *words]) == 1
    said = capsys.readouterr().err
    assert message in said and said.startswith("sp4d: error:") and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_an_interrupted_build_says_how_to_go_on(folder, tmp_path, monkeypatch, capsys):
    from sp4dlib.clips import build

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "make_object", stop)
    with pytest.raises(SystemExit) as caught:
        cli.main(["data", "build", str(folder), "-o", str(tmp_path / "set"), *SMALL])
    assert caught.value.code == 130 and "the same command goes on from here" in capsys.readouterr().err
    monkeypatch.undo()
    assert cli.main(["data", "build", str(folder), "-o", str(tmp_path / "set"), *SMALL]) == 0


def test_help_names_every_source(capsys):
    with pytest.raises(SystemExit):
        cli.main(["data", "build", "--help"])
    said = capsys.readouterr().out
    assert all(word in said for word in ("assets[:SPLIT]", "procedural", "humans", "LIST", "--ray", "--files"))
