"""Files that mean harm, or are noise: each loads or gives one error, in bounded time and memory."""

from __future__ import annotations

import contextlib
import io
import json
import random
import signal
import struct
import sys

import numpy as np
import pytest
from gltf_samples import Sample, bar, robot, under_draco
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_rigs_sources import picture, stream, textured

from sp4dlib import rigs
from sp4dlib.rigs import RigError
from sp4dlib.rigs.gltf_draco import DracoError, DracoMesh, decode

MEMORY, SECONDS = 3 * 2**29, 30


@contextlib.contextmanager
def bounded(memory: int = MEMORY, seconds: int = SECONDS):
    """Within, this process may take so much more memory (on Linux), and so much time."""
    def late(*_):
        raise AssertionError(f"took more than {seconds} seconds")

    resource = pytest.importorskip("resource")
    before, handler = resource.getrlimit(resource.RLIMIT_AS), signal.signal(signal.SIGALRM, late)
    if sys.platform == "linux":
        with open("/proc/self/statm") as file:
            taken = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + memory, before[1]))
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def survives(content: bytes, path) -> str:
    """Load what may be anything. Returns the error, empty if there was none; fails on any other end."""
    path.write_bytes(content)
    with bounded():
        try:
            rig = rigs.load(path)
        except RigError as error:
            message = str(error)
            assert path.name in message, "an error must name the file"
            assert "more memory than there is" not in message, "it was the system's limit that ended it"
            return message
        assert np.isfinite(rig.vertices).all() and abs(rig.weights.sum(1) - 1).max() < 1e-6
        with np.errstate(all="ignore"):
            for animation in rig.animations[:2]:
                assert rig.pose(animation, [0.3 * min(animation.duration, 1e6)]).shape == (1, len(rig.vertices), 3)
    return ""


def glb(document, binary: bytes) -> bytes:
    """As :meth:`Sample.glb`, of a document that may be anything; lengths are true."""
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    return (struct.pack("<3I", 0x46546C67, 2, 28 + len(text) + len(binary)) + struct.pack("<2I", len(text), 0x4E4F534A)
            + text + struct.pack("<2I", len(binary), 0x004E4942) + binary)


SAMPLES = {"bar": bar(), "robot": robot(), "textured": textured(picture())}
POISON = [-1, 0, 1, 2, 3, 7, 99, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63, 10**30, -2**31, 0.5, -1e-300, 1e38,
          1e308, float("inf"), float("nan"), True, None, "", "x", "../../../etc/passwd", "/dev/zero", "http://localhost:1/x",
          "data:;base64,AAAA", [], {}, [0], [-1], [[]], [1e308] * 16, [0] * 16, {"a": 1}, [2**40] * 3, 5120, 5126, 5125]


def places(item, path: tuple = ()):
    """Paths of all values in a document."""
    yield path
    children = item.items() if isinstance(item, dict) else enumerate(item) if isinstance(item, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


PLACES = {name: [p for p in places(sample.document()) if p] for name, sample in SAMPLES.items()}


def poisoned(draw, name: str) -> bytes:
    """A document with some values replaced, taken away, or taken from elsewhere in it."""
    document = SAMPLES[name].document()
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(PLACES[name]))
        holder = document
        try:
            for key in path[:-1]:
                holder = holder[key]
            if draw(st.integers(0, 5)) == 0:
                del holder[path[-1]]
            else:
                holder[path[-1]] = draw(st.sampled_from(POISON))
        except (KeyError, IndexError, TypeError):           # an earlier change took it away
            continue
    return glb(document, SAMPLES[name].binary)


def flipped(draw, content: bytes) -> bytes:
    out = bytearray(content)
    for _ in range(draw(st.integers(1, 5))):
        out[draw(st.integers(0, len(out) - 1))] = draw(st.sampled_from([0, 1, 127, 128, 255]) | st.integers(0, 255))
    return bytes(out)


@settings(max_examples=400, deadline=None, derandomize=True, database=None,
          suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_any_file_loads_or_gives_one_error(tmp_path_factory, data):
    """Values that lie, bits that flip, files that end early; a .gltf and a .glb."""
    name = data.draw(st.sampled_from(sorted(SAMPLES)))
    way = data.draw(st.sampled_from(["poison", "poison", "poison", "flip", "cut", "header", "noise"]))
    whole = SAMPLES[name].glb()
    if way == "poison":
        content = poisoned(data.draw, name)
    elif way == "flip":
        content = flipped(data.draw, whole)
    elif way == "cut":
        content = whole[:data.draw(st.integers(0, len(whole)))]
    elif way == "header":
        numbers = [data.draw(st.sampled_from([0, 1, 2, 12, 20, 2**31, 2**32 - 1, len(whole)])) for _ in range(5)]
        content = struct.pack("<5I", *numbers) + whole[20:] if data.draw(st.booleans()) else (
            whole[:8] + struct.pack("<3I", *numbers[:3]) + whole[20:])
    else:
        content = data.draw(st.sampled_from([b"", b"glTF\2\0\0\0", b"{", b"{}"])) + data.draw(st.binary(max_size=200))
    survives(content, tmp_path_factory.getbasetemp() / f"hostile{data.draw(st.sampled_from(['.glb', '.gltf']))}")


def test_the_fuzz_can_fail(tmp_path, monkeypatch):
    """Whole samples load, and what the checks are there to find is found."""
    for name, sample in SAMPLES.items():
        assert survives(sample.glb(), tmp_path / f"{name}.glb") == ""
    for wrong, expected in ((lambda *_: 1 / 0, ZeroDivisionError), (lambda *_: np.ones(2**29), AssertionError),
                            (lambda *_: signal.raise_signal(signal.SIGALRM), AssertionError)):
        monkeypatch.setattr("sp4dlib.rigs.gltf._assemble", wrong)
        monkeypatch.setattr("sp4dlib.rigs.gltf.ArithmeticError", KeyError, raising=False)
        with pytest.raises(expected):
            survives(bar().glb(), tmp_path / "bar.glb")


# Small files that ask for much. Each would take gigabytes, or minutes, if it were believed.

def nodes_in_a_row(count: int) -> dict:
    document = bar().document()
    first = len(document["nodes"])
    document["nodes"] += [{"children": [first + i + 1]} for i in range(count)] + [{"mesh": 0}]
    document["scenes"][0]["nodes"].append(first)
    return document


def copies(count: int, **node) -> dict:
    document = bar().document()
    document["nodes"] += [{"mesh": 0, **node} for _ in range(count)]
    document["scenes"] = []
    return document


def zeros(count: int, where: str) -> dict:
    document = bar().document()
    document["accessors"].append({"componentType": 5126, "type": "VEC4" if where == "WEIGHTS_0" else "VEC3",
                                  "count": count})
    document["meshes"][0]["primitives"][0]["attributes"][where] = len(document["accessors"]) - 1
    return document


def channels(count: int) -> dict:
    document = bar().document()
    entry = document["animations"][0]
    document["accessors"] += [{"componentType": 5126, "type": kind, "count": 40000} for kind in ("SCALAR", "VEC3")]
    at = len(document["accessors"])
    entry["samplers"] = [{"input": at - 2, "output": at - 1}]
    entry["channels"] = [{"sampler": 0, "target": {"node": 1, "path": "scale"}} for _ in range(count)]
    return document


def primitives(count: int, **change) -> dict:
    document = bar().document()
    mesh = document["meshes"][0]
    mesh["primitives"] = [{**mesh["primitives"][0], **change} for _ in range(count)]
    return document


def only(count: int) -> dict:
    """Nodes that bear the mesh, and nothing else."""
    return {"nodes": [{"mesh": 0}] * count, "scenes": []}


def moving(count: int) -> dict:
    """So many animated nodes without a mesh, in a row, above one that has one: joints."""
    document = nodes_in_a_row(count)
    document["animations"][0]["channels"] += [
        {"sampler": 1, "target": {"node": 4 + i, "path": "translation"}} for i in range(count)]
    return document


def skins(count: int) -> dict:
    document = copies(count, skin=0)
    document["skins"] = [{"joints": [1, 2] * count}]
    return document


GREED = {
    "zeros for positions": (lambda: zeros(10**7, "POSITION"), "too large"),
    "zeros without end": (lambda: zeros(2**62, "POSITION"), "too large"),
    "zeros for weights": (lambda: zeros(2**40, "WEIGHTS_0"), "too large"),
    "copies of a part": (lambda: copies(50000), "too large"),
    "copies with weights": (lambda: copies(9000, translation=[1, 0, 0]), "too large"),
    "primitives that are nothing": (lambda: {**primitives(3000, mode=0), **only(3000)}, "too large"),
    "nodes in a row": (lambda: nodes_in_a_row(60000), ""),
    "joints in a row": (lambda: moving(3000), ""),
    "joints without end": (lambda: moving(30000), "joints"),
    "channels over the same keys": (lambda: channels(3000), "too large|length"),
    "skins of many joints": (lambda: skins(1500), ""),
    "names that are equal": (lambda: {**(d := moving(2000)), "nodes": [{**n, "name": "a"} for n in d["nodes"]]}, ""),
    "brackets": (lambda: b'{"asset": ' + b"[" * 10**6, "JSON"),
    "digits": (lambda: b'{"asset": {"version": "2.0"}, "scene": ' + b"9" * 10**6 + b"}", "JSON"),
}


@pytest.mark.parametrize("case", GREED)
def test_small_files_that_ask_for_much(tmp_path, case):
    make, expected = GREED[case]
    message = survives(glb(make(), bar().binary), tmp_path / "greedy.glb")
    if expected:
        assert any(part in message for part in expected.split("|")), message


def test_chunks_without_end(tmp_path):
    whole = bar().glb()
    empty = struct.pack("<2I", 0, 0x12345678) * 10**6
    survives(whole[:8] + struct.pack("<I", len(whole) + len(empty)) + whole[12:] + empty, tmp_path / "chunks.glb")


def test_one_picture_many_times(tmp_path):
    from PIL import Image

    flat = io.BytesIO()
    Image.new("RGB", (4096, 4096), "red").save(flat, "PNG")             # 50 kB, 64 MiB unpacked
    sample = textured(flat.getvalue())
    assert survives(sample.glb(), tmp_path / "once.glb") == ""
    document = sample.document()
    many = range(64)
    document["images"] = [document["images"][0] for _ in many]
    document["textures"] = [{"source": i} for i in many]
    document["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": i}}} for i in many]
    part = document["meshes"][0]["primitives"][0]
    document["meshes"][0]["primitives"] = [{**part, "material": i} for i in many]
    assert "texels" in survives(glb(document, sample.binary), tmp_path / "often.glb")


# Draco streams: many in one child, whose end would be the end of all.

def draco_streams() -> list[bytes]:
    import DracoPy

    made = under_draco(bar())
    points = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    faces = np.random.default_rng(1).integers(0, 40, (60, 3)).astype(np.uint32)
    levels = [DracoPy.encode(points, faces, compression_level=level) for level in (0, 7, 10)]
    return [made.binary[stream(made)], *levels]


@pytest.mark.parametrize("seed", range(3))
def test_draco_streams_decode_or_say_why(seed):
    whole, broken, chance = draco_streams(), [], random.Random(seed)
    for _ in range(400):
        content = bytearray(chance.choice(whole))
        if chance.random() < 0.2:
            content = content[:chance.randrange(len(content))]
        else:                           # most behind the magic word, where counts and methods stand
            for _ in range(chance.randint(1, 5)):
                span = chance.choice([24, 64, len(content)])
                content[chance.randrange(7, min(span, len(content)))] = chance.choice([0, 1, 127, 128, 255,
                                                                                        chance.randrange(256)])
        broken.append(bytes(content))
    results = decode([*broken, *whole], memory=2**29, seconds=20)
    assert all(isinstance(r, DracoMesh) for r in results[-len(whole):]), "whole streams decode after all the others"
    decoded = sum(isinstance(r, DracoMesh) for r in results)
    assert 20 < decoded < 380 and all(isinstance(r, (DracoMesh, DracoError)) for r in results)


@settings(max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_files_with_broken_draco_streams(tmp_path_factory, data):
    sample: Sample = under_draco(bar())
    where = stream(sample)
    sample.binary = (sample.binary[:where.start] + flipped(data.draw, sample.binary[where])
                     + sample.binary[where.stop:])
    survives(sample.glb(), tmp_path_factory.getbasetemp() / "draco.glb")
