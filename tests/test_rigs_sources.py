"""What files from anywhere hold: rigid parts on nodes, Draco streams, textures of all kinds, files beside the file."""

from __future__ import annotations

import io
import logging
import os

import numpy as np
import pytest
from gltf_reference import Reference
from gltf_samples import Sample, bar, robot, under_draco, values
from test_rigs_gltf import agrees, equal

from sp4dlib import rigs
from sp4dlib.rigs import RigError
from sp4dlib.rigs.gltf_draco import DracoError, DracoMesh, decode


# Rigid parts.

def test_a_robot_without_any_skin(tmp_path):
    rig = agrees(robot().write(tmp_path / "robot"))
    names, parents = rig.skeleton.names, rig.skeleton.parents
    above = {name: names[parents[j]] if parents[j] >= 0 else None for j, name in enumerate(names)}
    assert above == {"root": None, "base": "root", "arm": "base", "hand": "arm", "knuckle": "hand", "crate": "root"}
    share = {names[j]: np.flatnonzero(rig.weights[:, j]) // 8 for j in range(len(names))}      # boxes of 8 corners
    bears = {name: sorted(set(boxes.tolist())) for name, boxes in share.items()}
    # A part in the very place of the node above belongs to it: the arm's second material, the finger on its knuckle.
    assert bears == {"root": [], "base": [0], "arm": [1, 2], "hand": [3], "knuckle": [4], "crate": [5]}
    assert set(np.unique(rig.weights)) == {0.0, 1.0}
    equal(rig, rigs.load(rigs.save(rig, tmp_path / "saved.glb")))


def test_what_a_scale_of_0_hides_is_in_full_size_at_bind(tmp_path):
    rig = rigs.load(robot().write(tmp_path / "robot"))
    finger = rig.weights[:, rig.skeleton.names.index("knuckle")] > 0
    assert np.ptp(rig.vertices[finger], axis=0).max() > 0.3
    assert np.ptp(rig.pose("rest", [0])[0][finger], axis=0).max() < 1e-6
    assert np.ptp(rig.pose("move", [0.1])[0][finger], axis=0).max() > 0.3


def test_a_wrapper_that_moves_is_a_joint(tmp_path):
    sample = robot()
    sample.animate(0, "rotation", [0, 1], [[0, 0, 0, 1], [0, 1, 0, 0]])
    rig = agrees(sample.write(tmp_path / "robot"))
    assert rig.skeleton.names[0] == "wrapper" and not rig.weights[:, 0].any()


def test_static_files_say_that_nothing_moves(tmp_path):
    sample = robot()
    sample.json["animations"] = []
    with pytest.raises(RigError, match="no skin, and no animation that moves.*sp4dlib.lifting"):
        rigs.load(sample.write(tmp_path / "statue"))
    sample.animate(7, "translation", [0, 1], [[0, 0, 0], [0, 1, 0]])            # carries nothing
    with pytest.raises(RigError, match="no animation that moves"):
        rigs.load(sample.write(tmp_path / "statue"))


def test_motion_that_is_no_motion_of_joints_is_reported(tmp_path, caplog):
    sample = bar()
    sample.primitive["targets"] = [{"POSITION": sample.primitive["attributes"]["POSITION"]}]
    sample.json["meshes"][0]["primitives"] += [{**sample.primitive}, {**sample.primitive, "mode": 1}]
    sample.json["animations"].append({"name": "smile", "samplers": [{"input": sample.add([0, 1]),
                                                                     "output": sample.add([0, 1])}],
                                      "channels": [{"sampler": 0, "target": {"node": 3, "path": "weights"}}]})
    with caplog.at_level(logging.INFO):
        rig = rigs.load(sample.write(tmp_path / "face"))
    assert rig.notes == ("morph targets are left out", "points or lines are left out",
                         "animations that move no joint are left out: smile")
    assert caplog.text.count("face.glb: morph targets") == 1
    assert rigs.load(bar().write(tmp_path / "bar")).notes == ()


# Draco.

def test_draco_gives_what_was_compressed(tmp_path):
    plain, sample = rigs.load(bar().write(tmp_path / "plain")), under_draco(bar())
    rig = agrees(sample.write(tmp_path / "compressed"))
    np.testing.assert_array_equal(rig.faces, plain.faces)
    np.testing.assert_allclose(rig.vertices, plain.vertices, atol=1e-5 * plain.size)
    np.testing.assert_allclose(rig.weights, plain.weights, atol=1e-7)
    held = robot()                                                              # one part of several
    held.primitive["indices"] = held.add(values(held, held.primitive["indices"]), "uint16")     # others keep theirs
    under_draco(held)
    agrees(held.write(tmp_path / "robot"))


def test_draco_colours_are_normalised_as_the_accessor_says(tmp_path):
    sample = bar()
    paint = np.random.default_rng(0).integers(0, 256, (12, 4), np.uint8)
    sample.primitive["attributes"]["COLOR_0"] = sample.add(paint, "uint8", normalized=True)
    rig = rigs.load(under_draco(sample).write(tmp_path / "bar"))
    np.testing.assert_allclose(rig.appearance.vertex_colors, paint / 255, atol=1e-12)


def test_draco_beside_plain_data_is_not_needed(tmp_path, monkeypatch):
    sample = bar()
    views = [dict(a) for a in sample.json["accessors"]]
    under_draco(sample)
    sample.json["accessors"] = views
    del sample.json["extensionsRequired"]
    monkeypatch.setattr("sp4dlib.rigs.gltf_meshes.decode", None)
    agrees(sample.write(tmp_path / "both"))


def stream(sample: Sample) -> slice:
    """Where the Draco stream lies in the sample's buffer."""
    view = sample.json["bufferViews"][sample.primitive["extensions"]["KHR_draco_mesh_compression"]["bufferView"]]
    return slice(view["byteOffset"], view["byteOffset"] + view["byteLength"])


def test_draco_that_cannot_be_decoded(tmp_path, monkeypatch):
    sample = under_draco(bar())
    where, whole = stream(sample), sample.binary
    sample.binary = whole[:where.start] + whole[where][:40] + b"\xff" * (where.stop - where.start - 40)
    with pytest.raises(RigError, match=r"bad.glb is damaged: the Draco stream in bufferViews\[\d+\]"):
        rigs.load(sample.write(tmp_path / "bad"))
    sample.binary = whole
    sample.primitive["extensions"]["KHR_draco_mesh_compression"]["attributes"]["JOINTS_0"] = 99
    with pytest.raises(RigError, match="no attribute 99"):
        rigs.load(sample.write(tmp_path / "bad"))
    missing = tmp_path / "nothing"
    missing.mkdir()
    (missing / "DracoPy.py").write_text("raise ImportError")
    monkeypatch.syspath_prepend(str(missing))
    with pytest.raises(RigError, match="pip install DracoPy.*export it again without Draco"):
        rigs.load(under_draco(bar()).write(tmp_path / "bad"))


def test_a_decoder_that_crashes_or_hangs_ends_alone(tmp_path, monkeypatch):
    good = under_draco(bar())
    content = good.binary[stream(good)]
    fake = tmp_path / "fake"
    fake.mkdir()
    monkeypatch.syspath_prepend(str(fake))
    for code, message in (("import ctypes; ctypes.string_at(0)", "ended with code -"),
                          ("def decode(b):\n while True: pass", "ended with code -|more than"),
                          ("def decode(b): return bytearray(2**32)", "more memory")):
        (fake / "DracoPy.py").write_text(code)
        try:
            [result] = decode([content], seconds=1)
        except DracoError as error:
            result = error
        assert isinstance(result, DracoError)
        assert any(part in str(result) for part in message.split("|")), str(result)


def test_draco_point_clouds_are_refused_unread():
    import DracoPy

    cloud = bytearray(DracoPy.encode(np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)))
    cloud[11:15] = b"\0\xe1\xf5\x05"                # a hundred million points: gigabytes, were they believed
    mesh = under_draco(bar())
    bad, good = decode([bytes(cloud), mesh.binary[stream(mesh)]])
    assert isinstance(bad, DracoError) and "no Draco mesh" in str(bad) and isinstance(good, DracoMesh)


# Looks.

def picture(size: tuple[int, int] = (5, 7), kind: str = "PNG") -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size, 4), np.uint8)).convert(
        "RGB" if kind == "JPEG" else "RGBA").save(out, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return out.getvalue()


def textured(content: bytes, **texture) -> Sample:
    sample = bar()
    sample.json.update(images=[{"bufferView": sample.view(content), "mimeType": "image/png"}],
                       textures=[{"source": 0, **texture}],
                       materials=[{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}])
    sample.primitive.update(material=0)
    sample.primitive["attributes"]["TEXCOORD_0"] = sample.add(np.random.default_rng(1).uniform(-2, 2, (12, 2)))
    return sample


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_pictures(tmp_path, kind):
    from PIL import Image

    content = picture(kind=kind)
    [material] = rigs.load(textured(content).write(tmp_path / "bar")).appearance.materials
    np.testing.assert_array_equal(material.texture, np.asarray(Image.open(io.BytesIO(content)).convert("RGBA")))


def test_webp_is_preferred_and_unknown_formats_are_left_out(tmp_path):
    sample = textured(picture())
    sample.json["images"].append({"bufferView": sample.view(picture((3, 2), "WEBP")), "mimeType": "image/webp"})
    sample.json["textures"][0]["extensions"] = {"EXT_texture_webp": {"source": 1}}
    assert rigs.load(sample.write(tmp_path / "bar")).appearance.materials[0].texture.shape == (3, 2, 4)
    sample.json["textures"] = [{"extensions": {"KHR_texture_basisu": {"source": 0}}}]
    sample.json["extensionsRequired"] = ["KHR_texture_basisu"]
    rig = rigs.load(sample.write(tmp_path / "bar"))
    assert rig.appearance.materials[0].texture is None
    assert rig.notes == ("KHR_texture_basisu is left out",
                         "the texture of material 0 is in a format that cannot be read; left out")


def test_wrapping_survives_a_round_trip(tmp_path):
    sample = textured(picture(), sampler=0)
    sample.json.update(samplers=[{"wrapS": 33071, "wrapT": 33648}, {"wrapS": 10497, "magFilter": 9728}])
    sample.json["textures"] += [{"source": 0, "sampler": 1}, {"source": 0}]
    plain = {"attributes": sample.primitive["attributes"], "indices": sample.primitive["indices"]}
    for i in (1, 2):
        sample.json["materials"].append({"pbrMetallicRoughness": {"baseColorTexture": {"index": i}}})
        sample.json["meshes"][0]["primitives"].append({**plain, "material": i})
    rig = rigs.load(sample.write(tmp_path / "bar"))
    expected = [("CLAMP", "MIRROR"), ("REPEAT", "REPEAT"), ("REPEAT", "REPEAT")]
    assert [m.wrap for m in rig.appearance.materials] == expected
    assert len({id(m.texture) for m in rig.appearance.materials}) == 1, "one image, read once"
    path = rigs.save(rig, tmp_path / "saved.glb")
    assert [m.wrap for m in rigs.load(path).appearance.materials] == expected
    written = Reference(path).gltf
    assert (len(written.images), len(written.textures), len(written.samplers)) == (1, 2, 1)


def test_large_textures_are_reduced_on_request(tmp_path):
    path = textured(picture((40, 64))).write(tmp_path / "bar")
    whole, small = (rigs.load(path, limit).appearance.materials[0].texture for limit in (None, 16))
    assert whole.shape == (40, 64, 4) and small.shape == (10, 16, 4)
    assert abs(small[..., 3].mean() - whole[..., 3].mean()) < 1
    assert rigs.load(path, 64).appearance.materials[0].texture.shape == (40, 64, 4)


def test_materials_with_other_texture_coordinates_keep_their_own(tmp_path):
    sample = textured(picture())
    other = np.random.default_rng(2).uniform(0, 1, (12, 2))
    sample.primitive["attributes"]["TEXCOORD_1"] = sample.add(other)
    sample.json["materials"].append({"pbrMetallicRoughness": {"baseColorTexture": {"index": 0, "texCoord": 1}}})
    sample.json["meshes"][0]["primitives"].append({**sample.primitive, "material": 1})
    look = (rig := rigs.load(sample.write(tmp_path / "bar"))).appearance
    assert look.uv.shape == (24, 2)
    for material, expected in ((0, sample.primitive["attributes"]["TEXCOORD_0"]), (1, None)):
        rows = np.unique(rig.faces[look.face_material == material])
        truth = other if expected is None else Reference(tmp_path / "bar.glb").accessor(expected)
        np.testing.assert_allclose(look.uv[rows], truth, atol=1e-6)


@pytest.mark.parametrize("change", [{"alphaMode": "GLOW"}, {"alphaCutoff": float("nan")},
                                    {"pbrMetallicRoughness": {"baseColorFactor": [1, 2]}}])
def test_materials_that_mean_nothing(tmp_path, change):
    sample = textured(picture())
    sample.json["materials"][0].update(change)
    with pytest.raises(RigError, match=r"materials\[0\]"):
        rigs.load(sample.write(tmp_path / "bar"))


def test_pictures_that_are_none(tmp_path):
    bomb = bytearray(picture())
    bomb[16:24] = (2**15).to_bytes(4, "big") * 2                  # says 32768 x 32768, 4 GiB, in two hundred bytes
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EOF\n"      # Pillow would start a program for it
    for content, message in ((bytes(bomb), "too large|no picture"), (picture()[:60], "no picture"),
                             (script, "no picture"), (b"", "no picture")):
        with pytest.raises(RigError, match=message) as caught:
            rigs.load(textured(content).write(tmp_path / "bar"))
        assert "bar.glb" in str(caught.value)


# Files beside the file.

@pytest.fixture
def secret(tmp_path):
    """A folder with a glTF file in it, and beside the folder a file that must not be read."""
    (tmp_path / "model/textures").mkdir(parents=True)
    (tmp_path / "secret.bin").write_bytes(bar().binary)
    (tmp_path / "model/textures/good.bin").write_bytes(bar().binary)
    return tmp_path


def naming(folder, uri: str):
    import json

    path = folder / "model" / "bar.gltf"
    path.write_text(json.dumps(bar().document(uri)))
    return path


@pytest.mark.parametrize("uri", ["../secret.bin", "%2e%2e/secret.bin", "textures/../../secret.bin", "{absolute}",
                                 "file://{absolute}", "/etc/passwd", "http://localhost:1/secret.bin",
                                 "//localhost/secret.bin", "link.bin", "folder/secret.bin", "C:\\\\secret.bin"])
def test_files_elsewhere_are_not_read(secret, uri):
    (secret / "model/link.bin").symlink_to(secret / "secret.bin")
    (secret / "model/folder").symlink_to(secret)
    path = naming(secret, uri.format(absolute=secret / "secret.bin"))
    with pytest.raises(RigError, match="leads out of its folder"):
        rigs.load(path)


@pytest.mark.parametrize("uri, message", [("textures", "no file"), ("pipe", "no file"), ("a\0b", "damaged"),
                                          ("circle", "damaged|cannot read"), ("x" * 5000, "damaged|cannot read"),
                                          ("textures/gone.bin", "gone.bin.*put that file beside it"),
                                          (".", "no file"), ("data:;base64,@@", "data URI"), ("data:,é€", "data URI")])
def test_files_that_are_none(secret, uri, message):
    os.mkfifo(secret / "model/pipe")
    (secret / "model/circle").symlink_to("circle")
    with pytest.raises(RigError, match=message) as caught:
        rigs.load(naming(secret, uri))
    assert "bar.gltf" in str(caught.value)


def test_files_below_and_through_a_link_to_the_whole(secret):
    path = naming(secret, "textures/good.bin")
    assert len(rigs.load(path).vertices) == 12
    stored = secret / "store"                       # as caches keep files: by content, with links that name them
    stored.mkdir()
    for name in ("bar.gltf", "textures/good.bin"):
        (secret / "model" / name).rename(stored / name.replace("/", "_"))
        (secret / "model" / name).symlink_to(stored / name.replace("/", "_"))
    assert len(rigs.load(path).vertices) == 12
    with pytest.raises(RigError, match="no file.; check the path"):
        rigs.load(secret / "model")
