"""Reading and writing glTF: every way to store a thing, against an independent reader; damaged files; round trips."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from gltf_reference import Reference
from gltf_samples import Sample, bar
from hypothesis import given, settings
from hypothesis import strategies as st

from sp4dlib import rigs
from sp4dlib.rigs import Animation, Appearance, Material, Rig, RigError, Skeleton, Track

TIMES = np.array([0.0, 0.3, 0.5, 0.85, 1.2, 1.5])


def agrees(path, tolerance: float = 1e-6) -> Rig:
    """Load, and compare default and animated positions with the independent reader."""
    rig, reference = rigs.load(path), Reference(path)
    still = rig.pose("rest" if any(a.name == "rest" for a in rig.animations) else None, [0])[0]
    assert np.abs(still - reference.positions(None, 0)).max() < tolerance * rig.size
    if reference.gltf.animations:
        expected = np.stack([reference.positions(0, t) for t in TIMES])
        assert np.ptp(expected, axis=0).max() > 0.05 * rig.size, "the sample must move, or the comparison is empty"
        assert np.abs(rig.pose(0, TIMES) - expected).max() < tolerance * rig.size
    return rig


@pytest.mark.parametrize("how", ["glb", "data", "side"])
def test_containers(tmp_path, how):
    rig = agrees(bar().write(tmp_path / "bar", how))
    assert rig.skeleton.names == ("base", "tip") and rig.skeleton.parents.tolist() == [-1, 0]
    assert rig.animations[0].name == "move" and rig.animations[0].duration == 1.5


def test_bind_pose_is_upright_and_in_scene_units(tmp_path):
    path = bar().write(tmp_path / "bar")
    rig, reference = rigs.load(path), Reference(path)
    bring = reference.world(1, {}) @ reference.inverse_bind(0)[0]       # C of the module's docstring
    raw = reference.raw()
    np.testing.assert_allclose(rig.vertices, raw @ bring[:3, :3].T + bring[:3, 3], atol=1e-9)
    np.testing.assert_allclose(rig.skeleton.bind, bring @ np.linalg.inv(reference.inverse_bind(0)), atol=1e-7)
    np.testing.assert_allclose(np.ptp(rig.vertices, axis=0), np.ptp(raw, axis=0)[[0, 2, 1]] / 100, atol=1e-7)
    rest = rig.animation("rest")
    assert rest.duration == 0 and rig.animations[-1] is rest


def test_no_rest_where_default_is_bind(tmp_path):
    sample = bar()
    del sample.json["nodes"][2]["rotation"]
    assert [a.name for a in rigs.load(sample.write(tmp_path / "bar")).animations] == ["move"]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_index_types(tmp_path, dtype):
    sample = bar()
    faces = rigs.load(sample.write(tmp_path / "a")).faces
    sample.primitive["indices"] = sample.add(faces.ravel(), dtype)
    np.testing.assert_array_equal(agrees(sample.write(tmp_path / "b")).faces, faces)


def test_interleaved_vertices(tmp_path):
    sample = bar()
    points = rigs.gltf.GltfFile(sample.write(tmp_path / "a")).accessor(0)
    record = np.zeros(12, [("junk", "<f4"), ("at", "<f4", 3), ("w", "u1", 4), ("j", "<u2", 4)])
    record["at"], record["w"] = points, np.tile([255, 0, 0, 0], (12, 1))
    record["w"][6:] = [100, 155, 0, 0]
    record["j"] = [0, 1, 0, 0]
    view = sample.view(record.tobytes(), byteStride=record.dtype.itemsize)
    for name, offset, code, kind, more in (("POSITION", 4, 5126, "VEC3", {}), ("JOINTS_0", 20, 5123, "VEC4", {}),
                                           ("WEIGHTS_0", 16, 5121, "VEC4", {"normalized": True})):
        sample.json["accessors"].append({"bufferView": view, "byteOffset": offset, "componentType": code, "count": 12,
                                         "type": kind, **more})
        sample.primitive["attributes"][name] = len(sample.json["accessors"]) - 1
    rig = agrees(sample.write(tmp_path / "b"))
    assert rig.weights[7].tolist() == pytest.approx([100 / 255, 155 / 255])


def test_sparse_and_quantized_positions(tmp_path):
    sample = bar()
    accessor = sample.json["accessors"][sample.primitive["attributes"]["POSITION"]]
    accessor["sparse"] = {"count": 2, "indices": {"bufferView": sample.view(np.uint16([3, 11]).tobytes()),
                                                  "componentType": 5123},
                          "values": {"bufferView": sample.view(np.float32([[7, 8, 9], [1, 2, 3]]).tobytes())}}
    agrees(sample.write(tmp_path / "a"))
    quantized = bar()
    quantized.json["extensionsRequired"] = quantized.json["extensionsUsed"] = ["KHR_mesh_quantization"]
    points = np.random.default_rng(0).integers(-32767, 32767, (12, 3))
    quantized.primitive["attributes"]["POSITION"] = quantized.add(points, "int16", normalized=True)
    assert agrees(quantized.write(tmp_path / "b")).size < 0.05        # [-1, 1] below a scale of 0.01


@pytest.mark.parametrize("kind", ["STEP", "CUBICSPLINE"])
def test_interpolation(tmp_path, kind):
    sample, generator = bar(animated=False), np.random.default_rng(1)
    for node, path, width in ((2, "rotation", 4), (1, "translation", 3), (2, "scale", 3)):
        values = generator.uniform(0.2, 1, (4 * (3 if kind == "CUBICSPLINE" else 1), width))
        if path == "rotation":
            values /= np.linalg.norm(values, axis=1, keepdims=True)
        if path == "translation":
            values *= 40
        sample.animate(node, path, [0, 0.4, 0.9, 1.5], values, kind)
    agrees(sample.write(tmp_path / "bar"))


def test_animated_node_above_the_joints(tmp_path):
    sample = bar()
    sample.animate(0, "translation", [0, 1], [[0, 0, 0], [0.4, 1.2, -3]])
    rig = agrees(sample.write(tmp_path / "bar"))
    assert rig.skeleton.names == ("armature", "base", "tip") and not rig.weights[:, 0].any()


def test_node_with_matrix(tmp_path):
    sample = bar()
    node = sample.json["nodes"][0]
    turn, shear = node.pop("rotation"), np.eye(4)
    del node["scale"]
    shear[:3, :3] = 0.01 * np.array([[1, 0.3, 0], [0, 0, 1], [0, -1, 0.1]])
    node["matrix"] = shear.T.ravel().tolist()
    agrees(sample.write(tmp_path / "bar"))
    assert len(turn) == 4


def test_rigid_parts_of_a_skinned_file(tmp_path):
    """One hangs on a joint, mirrored, below a node that is no joint; one on nothing: both are parts of their own."""
    sample = bar()
    plain = {"attributes": {"POSITION": sample.primitive["attributes"]["POSITION"]},
             "indices": sample.primitive["indices"]}
    sample.json["meshes"].append({"primitives": [plain]})
    sample.json["nodes"][2]["children"] = [4]
    sample.json["nodes"] += [{"name": "holder", "children": [5], "translation": [0, 20, 0], "scale": [-1, 1, 2]},
                             {"name": "sword", "mesh": 1, "rotation": [0.6, 0, 0, 0.8]},
                             {"name": "rock", "mesh": 1, "scale": [0.01, 0.01, 0.01]}]
    sample.json["scenes"][0]["nodes"].append(6)
    rig = agrees(sample.write(tmp_path / "held"))
    assert rig.skeleton.names == ("root", "base", "tip", "sword", "rock")
    assert rig.skeleton.parents.tolist() == [-1, 0, 1, 2, 0]
    assert rig.weights[12:].argmax(1).tolist() == [3] * 12 + [4] * 12 and not rig.weights[:, 0].any()
    expected = rig.pose(0, [0])
    sword = rig.faces[(rig.faces >= 12).all(1) & (rig.faces < 24).all(1)]
    corners = expected[0][sword]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    body = expected[0][:12][rig.faces[:len(sword)]]
    outside = np.cross(body[:, 1] - body[:, 0], body[:, 2] - body[:, 0])
    signs = [np.sign(np.sum(n * (c.mean(1) - c.mean((0, 1))))) for n, c in ((normal, corners), (outside, body))]
    assert signs[0] == signs[1], "the mirrored part is inside out"
    sample.animate(5, "translation", [0, 1], [[0, 0, 0], [0, 30, 60]])        # now the sword moves by itself
    assert len(agrees(sample.write(tmp_path / "moving")).skeleton) == 5


def two_skins(constant: bool) -> Sample:
    """Two parts over the same joints, in spaces that differ by a matrix, or by one for each joint."""
    sample = bar()
    other = np.repeat(np.eye(4)[None], 2, axis=0)
    other[1, 0, 3] = -100
    shift = np.array([[0, -2, 0, 3], [2, 0, 0, 1], [0, 0, 2, 5], [0, 0, 0, 1.0]])
    other = other @ shift
    if not constant:
        other[1, 1, 3] += 12
    sample.json["skins"].append({"joints": [2, 1], "inverseBindMatrices": sample.add(other[::-1])})
    primitive = json.loads(json.dumps(sample.primitive))
    primitive["attributes"]["JOINTS_0"] = sample.add(np.tile([1, 0, 0, 0], (12, 1)), "uint8")
    sample.json["meshes"].append({"primitives": [primitive]})
    sample.json["nodes"].append({"mesh": 1, "skin": 1})
    sample.json["scenes"][0]["nodes"].append(4)
    return sample


def test_several_skins(tmp_path):
    rig = agrees(two_skins(constant=True).write(tmp_path / "two"))
    assert len(rig.vertices) == 24 and len(rig.skeleton) == 2


def test_skins_that_cannot_be_reconciled_say_so(tmp_path, caplog):
    sample = two_skins(constant=False)
    for mesh in sample.json["meshes"]:      # rigid weights: blending the bind pose is then exact
        mesh["primitives"][0]["attributes"]["WEIGHTS_0"] = sample.add(np.eye(4)[np.repeat([0, 1], 6)])
    with caplog.at_level(logging.WARNING):
        agrees(sample.write(tmp_path / "two"))
    assert "disagree" in caplog.text


def test_several_roots_get_one(tmp_path):
    sample = bar()
    sample.json["nodes"][0]["children"] = [1, 2]
    del sample.json["nodes"][1]["children"]
    sample.json["skins"][0]["joints"] = [2, 1]
    rig = agrees(sample.write(tmp_path / "bar"))
    assert rig.skeleton.names == ("root", "tip", "base") and rig.skeleton.parents.tolist() == [-1, 0, 0]
    assert not rig.weights[:, 0].any()


def test_children_listed_before_parents_and_equal_names(tmp_path):
    sample = bar()
    sample.json["skins"][0]["joints"] = [2, 1]
    inverse = np.repeat(np.eye(4)[None], 2, axis=0)
    inverse[0, 0, 3] = -100
    sample.json["skins"][0]["inverseBindMatrices"] = sample.add(inverse)
    sample.json["nodes"][2]["name"] = "base"
    rig = agrees(sample.write(tmp_path / "bar"))
    assert rig.skeleton.names == ("base", "base_1") and rig.skeleton.parents.tolist() == [-1, 0]


@pytest.mark.parametrize("mode, order, faces", [
    (5, [0, 1, 3, 4, 6], [[0, 1, 3], [1, 4, 3], [3, 4, 6]]), (6, [0, 1, 3, 4], [[1, 3, 0], [3, 4, 0]])])
def test_strips_and_fans(tmp_path, mode, order, faces):
    sample = bar()
    sample.primitive.update(mode=mode, indices=sample.add(order, "uint16"))
    assert rigs.load(sample.write(tmp_path / "bar")).faces.tolist() == faces


@pytest.mark.parametrize("bad", [np.nan, 0.0])
def test_bad_weights_follow_their_neighbours(tmp_path, caplog, bad):
    sample = bar()
    weights = np.eye(4)[np.repeat([0, 1], 6)]
    weights[[0, 10]] = bad
    sample.primitive["attributes"]["WEIGHTS_0"] = sample.add(weights)
    with caplog.at_level(logging.WARNING):
        rig = rigs.load(sample.write(tmp_path / "bar"))
    np.testing.assert_array_equal(rig.weights, np.eye(2)[np.repeat([0, 1], 6)])
    assert [r.message.count("2 of 12") for r in caplog.records] == [1]


def test_materials_and_textures(tmp_path):
    from PIL import Image

    sample = bar()
    picture = np.random.default_rng(0).integers(0, 255, (5, 7, 4), np.uint8)
    Image.fromarray(picture).save(tmp_path / "skin.png")
    uv = np.random.default_rng(1).uniform(0, 1, (12, 2))
    sample.json.update(
        images=[{"uri": "skin.png"}], textures=[{"source": 0}],
        materials=[{"name": "hide", "alphaMode": "MASK", "alphaCutoff": 0.25, "doubleSided": True,
                    "pbrMetallicRoughness": {"baseColorFactor": [0.1, 0.2, 0.3, 1], "baseColorTexture": {
                        "index": 0, "texCoord": 1, "extensions": {"KHR_texture_transform": {
                            "offset": [0.5, 0.25], "scale": [2, 3], "rotation": np.pi / 2}}}}}])
    sample.primitive["attributes"].update(TEXCOORD_0=sample.add(0 * uv), TEXCOORD_1=sample.add(uv),
                                          COLOR_0=sample.add(np.full((12, 3), 128), "uint8", normalized=True))
    sample.json["meshes"][0]["primitives"] += [{**sample.primitive}]
    sample.primitive["material"] = 0
    look = rigs.load(sample.write(tmp_path / "bar")).appearance
    assert [m.name for m in look.materials] == ["default", "hide"]
    assert np.bincount(look.face_material).tolist() == [18, 18]
    hide = look.materials[1]
    assert (hide.alpha_mode, hide.alpha_cutoff, hide.double_sided) == ("MASK", 0.25, True)
    assert hide.base_color == pytest.approx((0.1, 0.2, 0.3, 1))
    np.testing.assert_array_equal(hide.texture, picture)
    textured = look.uv[np.unique(rigs.load(tmp_path / "bar.glb").faces[look.face_material == 1])]
    # KHR_texture_transform: u' = offset + R scale u, with R = [[c, s], [-s, c]]
    np.testing.assert_allclose(textured, np.stack([0.5 + 3 * uv[:, 1], 0.25 - 2 * uv[:, 0]], 1), atol=1e-6)
    assert look.vertex_colors[0].tolist() == pytest.approx([128 / 255] * 3 + [1])


def test_parts_over_the_same_vertices_share_them(tmp_path):
    sample = bar()
    sample.json["meshes"][0]["primitives"] += [{**sample.primitive}]
    rig = rigs.load(sample.write(tmp_path / "bar"))
    assert len(rig.vertices) == 12 and len(rig.faces) == 36


# Damaged files. Each must give one error that names the file and says what to do.

def set_(where, value):
    def change(sample: Sample) -> None:
        item = sample.json
        for key in where[:-1]:
            item = item[key]
        item[where[-1]] = value
    return change


def no_skin(sample: Sample) -> None:
    del sample.json["nodes"][3]["skin"]


BROKEN = {
    "index beyond the vertices": (lambda s: s.primitive.update(indices=s.add([0, 1, 99], "uint16")), "vertex 99 of 12"),
    "joint beyond the skin": (lambda s: s.primitive["attributes"].update(
        JOINTS_0=s.add(np.full((12, 4), 9), "uint8")), "joint 9"),
    "accessor that is not there": (set_(["skins", 0, "inverseBindMatrices"], 77), r"accessors\[77\]"),
    "view beyond the buffer": (set_(["bufferViews", 0, "byteLength"], 10**6), "beyond its buffer"),
    "accessor beyond the view": (set_(["accessors", 0, "count"], 10**6), "beyond its buffer view"),
    "unknown component type": (set_(["accessors", 0, "componentType"], 5124), "does not know"),
    "nodes in a circle": (set_(["nodes", 2, "children"], [0]), "own ancestor"),
    "child that is not there": (set_(["nodes", 2, "children"], [40]), r"nodes\[40\]"),
    "no mesh": (set_(["scenes", 0, "nodes"], [0]), "no mesh"),
    "no skin, and nothing moves": (no_skin, "no skin, and no animation"),
    "bind pose without extent": (set_(["nodes", 0, "scale"], [0, 0, 0]), "'base' has no extent"),
    "rotation of length 0": (set_(["nodes", 2, "rotation"], [0, 0, 0, 0]), "length 0"),
    "negative joint": (lambda s: s.primitive["attributes"].update(JOINTS_0=s.add(np.full((12, 4), -1), "int8")),
                       "no indices"),
    "negative index": (lambda s: s.primitive.update(indices=s.add([0, 1, -1], "int16")), "vertex -1"),
    "negative count": (set_(["accessors", 0, "count"], -3), "count of accessors"),
    "negative offset": (set_(["bufferViews", 0, "byteOffset"], -8), "byteOffset of bufferViews"),
    "zeros by the billion": (lambda s: s.json["accessors"].append(
        {"componentType": 5126, "type": "VEC3", "count": 10**9}) or s.primitive["attributes"].update(
            POSITION=len(s.json["accessors"]) - 1), "too large"),
    "inverse bind of zeros": (lambda s: s.json["skins"][0].update(inverseBindMatrices=s.add(np.zeros((2, 4, 4)))),
                              "no inverse"),
    "too few inverse binds": (lambda s: s.json["skins"][0].update(inverseBindMatrices=s.add(np.eye(4)[None])),
                              "1 inverse bind"),
    "no weights at all": (lambda s: s.primitive["attributes"].update(WEIGHTS_0=s.add(np.zeros((12, 4)))), "no vertex"),
    "fewer weights than vertices": (lambda s: s.primitive["attributes"].update(WEIGHTS_0=s.add(np.eye(4))),
                                    "WEIGHTS_0"),
    "position that is not finite": (lambda s: s.primitive["attributes"].update(
        POSITION=s.add(np.full((12, 3), np.nan))), "NaN"),
    "times that go backwards": (lambda s: s.json["animations"][0]["samplers"][0].update(input=s.add([2, 1, 0])),
                                "backwards"),
    "values of another number than times": (
        lambda s: s.json["animations"][0]["samplers"][0].update(input=s.add([0, 1])), "2 times"),
    "quaternion of length 0": (lambda s: s.json["animations"][0]["samplers"][0].update(output=s.add(np.zeros((3, 4)))),
                               "length 0"),
    "version 1": (set_(["asset", "version"], "1.0"), "version 1.0"),
    "text for a number": (set_(["accessors", 0, "count"], "twelve"), "damaged"),
    "meshopt": (set_(["extensionsRequired"], ["EXT_meshopt_compression"]), "without meshopt"),
    "unknown extension": (set_(["extensionsRequired"], ["ACME_cubes"]), "ACME_cubes"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_documents(tmp_path, case):
    change, message = BROKEN[case]
    sample = bar()
    change(sample)
    path = sample.write(tmp_path / "broken")
    with pytest.raises(RigError, match=message) as caught:
        rigs.load(path)
    assert str(path) in str(caught.value)
    assert any(mend in str(caught.value) for mend in ("export", "get or", "rig it")), "it says no mend"


@pytest.mark.parametrize("content, message", [
    (b"", "empty"), (b"PK\x03\x04" + b"0" * 40, "neither"), (b"glTF\x01\0\0\0" + b"\0" * 20, "version 1"),
    (b"{not json", "JSON"), (b"[1, 2]", "neither")])
def test_broken_bytes(tmp_path, content, message):
    path = tmp_path / "broken.glb"
    path.write_bytes(content)
    with pytest.raises(RigError, match=message) as caught:
        rigs.load(path)
    assert str(path) in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 0.999))
def test_truncated_files_never_load(tmp_path_factory, share):
    content = bar().glb()
    path = tmp_path_factory.getbasetemp() / "cut.glb"
    path.write_bytes(content[:int(share * len(content))])
    with pytest.raises(RigError, match="cut.glb"):
        rigs.load(path)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_flipped_bytes_load_or_say_why(tmp_path_factory, data):
    content = bytearray(bar().glb())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "flipped.glb"
    path.write_bytes(content)
    try:
        rig = rigs.load(path)
    except RigError as error:
        assert "flipped.glb" in str(error)
    else:
        assert np.isfinite(rig.vertices).all()


def test_missing_files(tmp_path):
    with pytest.raises(RigError, match="nowhere.glb"):
        rigs.load(tmp_path / "nowhere.glb")
    path = bar().write(tmp_path / "bar", "side")
    (tmp_path / "side file.bin").unlink()
    with pytest.raises(RigError, match="side file.bin.*put that file beside it"):
        rigs.load(path)


# Round trips.

def equal(a: Rig, b: Rig) -> None:
    """Everything that a file must keep."""
    np.testing.assert_array_equal(a.faces, b.faces)
    np.testing.assert_array_equal(a.skeleton.parents, b.skeleton.parents)
    assert a.skeleton.names == b.skeleton.names
    assert np.abs(a.vertices - b.vertices).max() < 1e-6 * a.size
    assert np.abs(a.weights - b.weights).max() < 1e-6
    assert np.abs(a.skeleton.joints - b.skeleton.joints).max() < 1e-5 * a.size
    assert [x.name for x in a.animations] == [x.name for x in b.animations]
    for x, y in zip(a.animations, b.animations):
        assert x.duration == pytest.approx(y.duration, abs=1e-6)
        times = np.linspace(0, x.duration, 5) if x.duration else [0]
        assert np.abs(a.pose(x, times) - b.pose(y, times)).max() < 1e-5 * a.size


def test_round_trip_of_every_sample(tmp_path):
    for i, sample in enumerate((bar(), bar(animated=False), two_skins(True), two_skins(False))):
        rig = rigs.load(sample.write(tmp_path / f"{i}"))
        equal(rig, rigs.load(rigs.save(rig, tmp_path / f"{i}_saved.glb")))


def random_rig(generator: np.random.Generator, joints: int, influences: int) -> Rig:
    """A rig with turned and scaled joints, many influences, constant matrices and mixed materials."""
    n = 40
    parents = np.array([-1, *(generator.integers(0, j) for j in range(1, joints))])
    unit = generator.normal(size=(joints, 4))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    scale = generator.uniform(0.5, 2, (joints, 1)).repeat(3, 1)
    local = rigs.rig.compose(generator.normal(size=(joints, 3)), unit, scale)
    skeleton = Skeleton(parents, [f"j{i % 3}" for i in range(joints)], local)
    skeleton = Skeleton(parents, skeleton.names, skeleton.chain(local))
    chosen = np.argsort(generator.uniform(size=(n, joints)), 1) < influences
    weights = generator.uniform(0.01, 1, (n, joints)) * chosen
    weights /= weights.sum(1, keepdims=True)
    before = np.repeat(np.eye(4)[None], joints, axis=0)
    before[1, 0, 3] = 1.5
    base = [generator.normal(size=(joints, 3)), unit, np.ones((joints, 3))]
    base[0][0], base[2][0] = local[0, :3, 3], np.linalg.norm(local[0, :3, 0])        # the root stands as at bind
    tracks = [Track(1, "rotation", np.array([0.0, 1]), unit[:2]),
              Track(0, "scale", np.array([0.5]), np.full((1, 3), 2.0)),
              Track(1, "translation", np.array([0.0, 2]), generator.normal(size=(2, 3, 3)), "CUBICSPLINE")]
    animations = [Animation("go", 2.5, *base, tuple(tracks), before), Animation("rest", 0.0, *base, (), before)]
    picture = generator.integers(0, 255, (4, 4, 4), np.uint8)
    materials = (Material("a", (0.5, 0.25, 1, 1)), Material("b", texture=picture, alpha_mode="MASK", alpha_cutoff=0.3),
                 Material("c", texture=picture, alpha_mode="BLEND", double_sided=False))
    look = Appearance(materials, generator.integers(0, 3, 60), generator.uniform(size=(n, 2)),
                      generator.uniform(size=(n, 4)))
    return Rig(generator.normal(size=(n, 3)), np.sort(generator.integers(0, n, (60, 3))), weights, skeleton, animations,
               look, "random")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(1, 9))
def test_round_trip_of_random_rigs(tmp_path_factory, seed, joints, influences):
    rig = random_rig(np.random.default_rng(seed), joints, min(influences, joints))
    back = rigs.load(rigs.save(rig, tmp_path_factory.getbasetemp() / "random.glb"))
    unique = tuple(dict.fromkeys(back.skeleton.names))
    assert len(unique) == joints and all(u.startswith(n) for u, n in zip(unique, rig.skeleton.names))
    equal(rig.replace(skeleton=Skeleton(rig.skeleton.parents, unique, rig.skeleton.bind)), back)
    for mine, theirs in zip(rig.appearance.materials, back.appearance.materials):
        assert (mine.name, mine.alpha_mode, mine.double_sided) == (theirs.name, theirs.alpha_mode, theirs.double_sided)
        assert mine.base_color == pytest.approx(theirs.base_color)
        assert (mine.texture is None) == (theirs.texture is None)
        if mine.texture is not None:
            np.testing.assert_array_equal(mine.texture, theirs.texture)
    np.testing.assert_array_equal(rig.appearance.face_material, back.appearance.face_material)
    np.testing.assert_allclose(rig.appearance.uv, back.appearance.uv, atol=1e-6)
    np.testing.assert_allclose(rig.appearance.vertex_colors, back.appearance.vertex_colors, atol=1e-6)


def test_round_trip_of_the_quadruped(tmp_path):
    rig = rigs.quadruped(3, vertices=1200)
    equal(rig, rigs.load(rigs.save(rig, tmp_path / "animal.glb")))


def test_rest_that_moves_the_root_keeps_the_bind_pose(tmp_path):
    rig = rigs.load(bar().write(tmp_path / "bar"))
    rest = rig.animation("rest")
    moved = Animation("rest", 0.0, rest.translation + 3, rest.rotation, rest.scale, (), rest.before)
    rig = rig.replace(animations=[rig.animations[0], moved])
    equal(rig, rigs.load(rigs.save(rig, tmp_path / "moved.glb")))


def test_save_can_keep_the_strongest_influences(tmp_path):
    rig = random_rig(np.random.default_rng(0), 9, 7)
    back = rigs.load(rigs.save(rig, tmp_path / "top.glb", max_influences=4))
    strongest = np.sort(rig.weights, 1)[:, -4][:, None]
    expected = np.where(rig.weights >= strongest, rig.weights, 0)
    np.testing.assert_allclose(back.weights, expected / expected.sum(1, keepdims=True), atol=1e-6)


def test_many_alternating_materials_are_sorted(tmp_path):
    rig = rigs.quadruped(vertices=1000)
    ids = np.arange(len(rig.faces)) % 5
    look = Appearance(tuple(Material(f"m{i}") for i in range(5)), ids)
    path = rigs.save(rig.replace(appearance=look), tmp_path / "animal.glb")
    back = rigs.load(path)
    assert len(Reference(path).gltf.meshes[0].primitives) == 5
    assert ({(int(m), *f) for m, f in zip(ids, rig.faces.tolist())}
            == {(int(m), *f) for m, f in zip(back.appearance.face_material, back.faces.tolist())})


def test_save_refuses_what_gltf_cannot_say(tmp_path):
    rig = rigs.quadruped(vertices=1000)
    with pytest.raises(RigError, match="ends in .glb"):
        rigs.save(rig, tmp_path / "animal.fbx")
    with pytest.raises(RigError, match="no faces"):
        rigs.save(rig.replace(faces=np.zeros((0, 3), int)), tmp_path / "animal.glb")
    with pytest.raises(ValueError, match="max_influences"):
        rigs.save(rig, tmp_path / "animal.glb", max_influences=0)
    shifted = Animation(**{f: getattr(rig.animations[1], f) for f in ("duration", "translation", "rotation", "scale")},
                        name="shifted", before=np.tile(np.diag([2.0, 2, 2, 1]), (22, 1, 1)))
    with pytest.raises(RigError, match="before"):
        rigs.save(rig.replace(animations=[*rig.animations, shifted]), tmp_path / "animal.glb")
    assert not list(tmp_path.iterdir()), "a refused save must leave nothing behind"
