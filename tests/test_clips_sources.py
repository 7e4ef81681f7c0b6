"""Where objects come from: keys, families, splits, lists; and the configuration that names them."""

import json
import re
import sys
import types
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import pytest
from clips_folders import write_rigs
from hypothesis import given, settings
from hypothesis import strategies as st

from sp4dlib import cli
from sp4dlib.clips import DrawRule, SetConfig, Source, list_entries, parse_sources, read_config
from sp4dlib.clips.annotations import annotated_family, find_files, read_annotations
from sp4dlib.clips.config import from_dict
from sp4dlib.clips.sources import file_family, load_entry, make_keys, split_of
from sp4dlib.rigs import FAMILIES, RigError, assets

COLUMNS = "fileIdentifier,source,license,fileType,sha256\n"


def families_by_split(entries) -> dict[str, set]:
    found = defaultdict(set)
    for entry in entries:
        found[entry.split].add(entry.family)
    return found


def test_folder(tmp_path):
    paths = write_rigs(tmp_path, 4)
    (tmp_path / "readme.txt").write_text("no rig")
    entries, passed_over = list_entries([Source("folder", "mine", str(tmp_path), licence="CC-BY-4.0")])
    assert [e.key for e in entries] == ["mine/pack0/arm0", "mine/pack0/arm1", "mine/pack1/arm2", "mine/pack1/arm3"]
    assert [e.family for e in entries] == ["mine:pack0"] * 2 + ["mine:pack1"] * 2
    assert {e.licence for e in entries} == {"CC-BY-4.0"} and not passed_over["mine"]
    rig, digest = load_entry(entries[0])
    assert rig.name == "mine/pack0/arm0" and len(rig.vertices) == 24 and re.fullmatch("[0-9a-f]{64}", digest)
    one, _ = list_entries([Source("folder", "one", str(paths[0]))])
    assert [e.key for e in one] == ["one/arm0"]


def test_variants_in_one_folder_are_a_family():
    assert {file_family(Path(name)) for name in ("Fox_01.glb", "fox_02.glb", "fox.glb")} == {"fox"}
    assert file_family(Path("a/b/fox_01.glb")) == "a/b" and file_family(Path("007.glb")) == "007"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=120), min_size=1, max_size=12, unique=True))
def test_keys_are_unique_plain_and_short(names):
    keys = make_keys("source", names)
    assert len({key.lower() for key in keys}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_/-]+", key) and len(key) <= 90 for key in keys)
    assert keys == make_keys("source", names)


@settings(max_examples=30, deadline=None)
@given(names=st.lists(st.text("abcdef", min_size=1, max_size=4), min_size=1, max_size=40, unique=True),
       val=st.floats(0, 0.5), test=st.floats(0, 0.5), seed=st.integers(0, 99))
def test_a_split_depends_on_the_family_alone(names, val, test, seed):
    splits = {name: split_of(name, val, test, seed) for name in names}
    assert splits == {name: split_of(name, val, test, seed) for name in reversed(names)}
    if test == 0:
        assert "test" not in splits.values()


def test_shares_of_families_are_met():
    counts = defaultdict(int)
    for number in range(4000):
        counts[split_of(f"family {number}", 0.1, 0.2)] += 1
    assert abs(counts["val"] - 400) < 80 and abs(counts["test"] - 800) < 110


def test_no_family_is_in_two_splits(tmp_path):
    write_rigs(tmp_path / "rigs", 30)
    rows = "".join(f"https://github.com/owner{n % 9}/repo/blob/abc/{n}.glb,github,MIT,glb,\n" for n in range(60))
    (tmp_path / "list.csv").write_text(COLUMNS + rows)
    sources = [Source("folder", "rigs", str(tmp_path / "rigs")), Source("procedural", "procedural", count=3),
               Source("objaverse", "xl", str(tmp_path / "list.csv"))]
    for seed in range(4):
        entries, _ = list_entries(sources, 0.3, 0.3, seed)
        found = families_by_split(entries)
        assert set(found) == {"train", "val", "test"}
        assert sum(map(len, found.values())) == len(set().union(*found.values()))


def test_families_can_be_put_into_splits():
    source = Source("procedural", "made", families=("quadruped",), count=2, splits={"quadruped": "test"})
    entries, _ = list_entries([source])
    assert [(e.key, e.split, e.seed) for e in entries] == [("made/quadruped/00000", "test", 0),
                                                           ("made/quadruped/00001", "test", 1)]
    rig, digest = load_entry(entries[1])
    assert len(rig.skeleton) > 5 and digest == ""
    assert len(list_entries([Source("procedural", "all", count=2)])[0]) == 2 * len(FAMILIES)


def test_people_are_one_family_and_need_anny(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    entries, _ = list_entries([Source("humans", "people", count=3)], 0.4, 0.4)
    assert len({e.split for e in entries}) == 1 and [e.seed for e in entries] == [0, 1, 2]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="people needs the body model anny"):
        list_entries([Source("humans", "people")])


def test_the_asset_list_keeps_its_split():
    entries, _ = list_entries([Source("assets", "quaternius")], val=0.4, test=0.4)
    assert len(entries) == 102
    assert {e.locator: e.split for e in entries} == {a.name: a.split for a in assets.registry().values()}
    assert {e.licence for e in entries} == {"CC0-1.0"}
    only, _ = list_entries([Source("assets", "quaternius", split="val")])
    assert {e.split for e in only} == {"val"} and len(only) == 8


@pytest.mark.parametrize("sources, message", [
    ([], "no sources"),
    ([Source("procedural", "a"), Source("procedural", "a")], "two sources are named a"),
    ([Source("procedural", "a", families=("unicorn",))], "unicorn.*choose from"),
])
def test_sources_that_cannot_be_listed(sources, message):
    with pytest.raises(ValueError, match=message):
        list_entries(sources)


def test_missing_and_empty_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        list_entries([Source("folder", "a", str(tmp_path / "none"))])
    with pytest.raises(ValueError, match="holds nothing to build from"):
        list_entries([Source("folder", "a", str(tmp_path))])


def test_lists_of_all_formats(tmp_path):
    (tmp_path / "a.csv").write_text(COLUMNS + "one,sketchfab,CC-BY,glb,00ff\n")
    (tmp_path / "b.json").write_text(json.dumps([{"fileIdentifier": "one", "license": "CC-BY", "sha256": "00ff"}]))
    (tmp_path / "c.jsonl").write_text('{"uid": "one", "license": "CC-BY"}\n\n"two"\n')
    (tmp_path / "d.txt").write_text("one\ntwo\n")
    (tmp_path / "e.json").write_text('{"one": "glbs/one.glb", "two": {"license": "CC0"}}')
    a, b, c, d, e = (read_annotations(tmp_path / name) for name in ("a.csv", "b.json", "c.jsonl", "d.txt", "e.json"))
    assert a[0]["license"] == b[0]["license"] == c[0]["license"] == "CC-BY" and a[0]["sha256"] == "00ff"
    assert [r["fileIdentifier"] for r in c] == [r["fileIdentifier"] for r in d] == ["one", "two"]
    assert e[0]["path"] == "glbs/one.glb" and e[1]["license"] == "CC0"


def test_a_parquet_list(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"fileIdentifier": ["one"], "license": [None], "metadata": ["{}"]}),
                        tmp_path / "a.parquet")
    assert read_annotations(tmp_path / "a.parquet")[0]["license"] == ""


@pytest.mark.parametrize("name, text, message", [
    ("a.csv", "name,licence\nx,y\n", "no fileIdentifier"),
    ("a.json", "[1, 2]", "neither an id nor a row"),
    ("a.json", "{", "cannot be read"),
    ("a.xml", "<a/>", "no list of objects"),
])
def test_lists_that_are_none(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_annotations(tmp_path / name)


def test_a_list_and_its_files(tmp_path):
    import hashlib

    first, second, third, _ = write_rigs(tmp_path / "files", 4)
    digest = hashlib.sha256(second.read_bytes()).hexdigest()
    second.rename(second.with_name(f"{digest}.glb"))
    rows = ["https://sketchfab.com/3d-models/arm0,sketchfab,CC-BY-4.0,glb,",
            f"https://github.com/o/r/blob/c/models/x.gltf,github,MIT,gltf,{digest}",
            "https://github.com/o/r/blob/c/models/y.fbx,github,MIT,fbx,", "https://example.org/z.stl,web,,,",
            "arm2,sketchfab,CC-BY-NC,glb,", f"arm3,sketchfab,CC-BY-4.0,glb,{'0' * 64}",
            "nowhere,sketchfab,CC-BY-4.0,,", "arm3,sketchfab,CC-BY-4.0,,"]
    (tmp_path / "list.csv").write_text(COLUMNS + "\n".join(rows) + "\n")
    source = Source("objaverse", "xl", str(tmp_path / "list.csv"), str(tmp_path / "files"), licences=("CC-BY-4", "MIT"))
    entries, passed_over = list_entries([source])
    assert passed_over["xl"] == {"file type fbx": 1, "file type stl": 1, "licence CC-BY-NC": 1, "named twice": 1}
    by_key = {entry.key: entry for entry in entries}
    assert by_key["xl/arm0"].locator == str(first) and by_key["xl/arm0"].licence == "CC-BY-4.0"
    assert by_key["xl/x"].locator.endswith(f"{digest}.glb") and by_key["xl/x"].family == "github.com/o/r"
    assert load_entry(by_key["xl/x"])[1] == digest
    with pytest.raises(RigError, match="not at hand"):
        load_entry(by_key["xl/nowhere"])
    with pytest.raises(RigError, match="not the file of the list"):
        load_entry(by_key["xl/arm3"])


def test_files_with_one_name_are_found_by_path_only(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.glb").write_bytes(folder.encode())
    assert set(find_files(str(tmp_path))) == {"a/x.glb", "b/x.glb"}
    (tmp_path / "map.json").write_text('{"id": "b/x.glb"}')
    assert find_files(str(tmp_path / "map.json"))["id"].read_bytes() == b"b"


def test_families_of_identifiers():
    assert annotated_family("https://github.com/me/repo/blob/a/b.glb") == annotated_family("https://github.com/me/repo/c")
    assert annotated_family("https://www.thingiverse.com/thing:1/f:2") == annotated_family("https://thingiverse.com/thing:1")
    assert annotated_family("https://sketchfab.com/3d-models/a") != annotated_family("https://sketchfab.com/3d-models/b")
    assert annotated_family("0123abcd") == "0123abcd"


def test_download_asks_for_the_objects_of_the_list(tmp_path, monkeypatch):
    """With a stand-in for the package, which would fetch from the network."""
    class Column(list):
        def isin(self, wanted):
            return [value in wanted for value in self]

    class Table(dict):
        def __getitem__(self, chosen):
            if isinstance(chosen, str):
                return super().__getitem__(chosen)
            return [row for row, wanted in zip(super().__getitem__("fileIdentifier"), chosen) if wanted]

    asked = {}

    def download_objects(objects, **options):
        asked.update(options, objects=objects)
        return {name: str(tmp_path / f"{name}.glb") for name in objects}

    xl = types.SimpleNamespace(get_annotations=lambda download_dir: Table(fileIdentifier=Column("abc")),
                               download_objects=download_objects)
    monkeypatch.setitem(sys.modules, "objaverse", types.SimpleNamespace(xl=xl))
    (tmp_path / "list.txt").write_text("a\nc\n")
    assert cli.main(["data", "fetch", str(tmp_path / "list.txt"), "-o", str(tmp_path / "files")]) == 0
    made = tmp_path / "files" / "files.json"
    assert asked["objects"] == ["a", "c"] and asked["save_repo_format"] == "files"
    assert find_files(str(made))["c"] == tmp_path / "c.glb"


def test_sources_of_the_command_line(tmp_path):
    write_rigs(tmp_path / "my rigs", 1)
    (tmp_path / "ids.txt").write_text("a\n")
    words = ["assets:val", "procedural=7", "procedural:quadruped=2", "humans=3", str(tmp_path / "my rigs"),
             str(tmp_path / "ids.txt")]
    found = parse_sources(words, files="here", licence="CC0")
    assert [(s.kind, s.name) for s in found] == [
        ("assets", "quaternius"), ("procedural", "procedural"), ("procedural", "procedural-2"), ("humans", "humans"),
        ("folder", "my_rigs"), ("objaverse", "ids")]
    assert (found[0].split, found[1].count, found[2].families, found[3].count) == ("val", 7, ("quadruped",), 3)
    assert found[4].licence == "CC0" and found[5].files == "here"
    with pytest.raises(ValueError, match="no source"):
        parse_sources(["nothing here"])


def test_configuration_files(tmp_path):
    text = {"name": "mine", "val": 0.2, "per_object": 2, "clips": {"size": 64, "fill": [0.5, 0.8]},
            "parts": {"motion": 0.02}, "sources": [{"kind": "procedural", "families": ["quadruped"]},
                                                   {"kind": "folder", "name": "f", "path": "rigs"}]}
    (tmp_path / "set.json").write_text(json.dumps(text))
    config = read_config(tmp_path / "set.json")
    assert config.clips == DrawRule(size=64, fill=(0.5, 0.8)) and config.parts.motion == 0.02
    assert config.sources[0].families == ("quadruped",) and config.sources[1].path == str(tmp_path / "rigs")
    assert from_dict(config.to_dict()) == config
    assert asdict(config)["name"] == "mine"


def test_toml_is_read(tmp_path):
    (tmp_path / "set.toml").write_text('seed = 3\n[clips]\nviews = 4\n[[sources]]\nkind = "assets"\nname = "q"\n')
    config = read_config(tmp_path / "set.toml")
    assert (config.seed, config.clips.views, config.sources) == (3, 4, (Source("assets", "q"),))


def test_the_default_set(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    config = read_config(Path(__file__).resolve().parents[1] / "data" / "kinematic_parts_open.toml")
    entries, _ = list_entries(config.sources, config.val, config.test, config.seed)
    assert len(entries) == 102 + 50 * len(FAMILIES) + 100 and "unknown" not in {entry.licence for entry in entries}
    found = families_by_split([entry for entry in entries if entry.source != "quaternius"])
    assert found["val"] == {"procedural:bird"} and found["test"] == {"procedural:robot_arm"}
    assert sum(map(len, found.values())) == len(FAMILIES) + 1
    assert (config.clips.frames, config.clips.views, config.clips.size) == (24, 24, 256)


@pytest.mark.parametrize("text, message", [
    ("{", "cannot be read"),
    ("[]", "fields by name"),
    ("{}", "at least one"),
    ('{"sources": [{"kind": "zoo"}]}', "kind folder"),
    ('{"sources": [{"kind": "assets", "colour": 1}]}', "source 1 has no field 'colour'"),
    ('{"sources": [{"kind": "assets"}], "clips": {"colour": 1}}', r"\[clips\] has no field 'colour'"),
    ('{"sources": [{"kind": "assets"}], "size": 1}', "no field 'size'"),
    ('{"sources": [{"kind": "assets"}], "per_object": 0}', "per_object"),
    ('{"sources": [{"kind": "assets"}], "clips": {"layout": "cube"}}', "layout"),
    ('{"sources": [{"kind": "assets"}], "parts": {"max_parts": 300}}', "8 bits"),
])
def test_configurations_that_make_no_sense(tmp_path, text, message):
    (tmp_path / "set.json").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_config(tmp_path / "set.json")
    assert "set.json" in str(caught.value)


def test_splits_must_leave_room():
    with pytest.raises(ValueError, match="shares"):
        list_entries([Source("procedural", "p")], val=0.7, test=0.7)
    with pytest.raises(ValueError, match="frames"):
        SetConfig((Source("procedural", "p"),), clips=DrawRule(frames=200))
