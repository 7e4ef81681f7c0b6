"""Meshes without a rig, from many formats."""

import numpy as np
import pytest
import trimesh
from PIL import Image

from sp4dlib import rigs
from sp4dlib.rigs.meshes import load_mesh, to_linear


@pytest.mark.parametrize("suffix", ["glb", "gltf", "obj", "ply", "stl", "off"])
def test_shape_comes_through(tmp_path, suffix):
    box = trimesh.creation.box((1, 2, 3))
    path = tmp_path / f"box.{suffix}"
    box.export(path)
    mesh = load_mesh(path)
    assert mesh.name == "box" and len(mesh.faces) == 12
    solid = trimesh.Trimesh(mesh.vertices, mesh.faces)
    assert np.allclose(np.ptp(mesh.vertices, axis=0), [1, 2, 3]) and solid.volume == pytest.approx(6, rel=1e-6)


def test_pieces_stand_in_their_places_with_their_colours(tmp_path):
    scene = trimesh.Scene()
    red, blue = trimesh.creation.box(), trimesh.creation.icosphere(1)
    red.visual = trimesh.visual.TextureVisuals(material=trimesh.visual.material.PBRMaterial(
        name="red", baseColorFactor=[255, 0, 0, 255], alphaMode="MASK", alphaCutoff=0.3, doubleSided=True))
    blue.visual.vertex_colors = [0, 0, 188, 255]
    scene.add_geometry(red, transform=trimesh.transformations.translation_matrix([5, 0, 0]))
    scene.add_geometry(blue)
    scene.export(tmp_path / "two.glb")
    mesh = load_mesh(tmp_path / "two.glb")
    left = mesh.vertices[:, 0] < 2
    assert left.sum() == len(blue.vertices) and np.allclose(mesh.vertices[~left].mean(0), [5, 0, 0])
    look = mesh.appearance
    face_left = left[mesh.faces[:, 0]]
    (of_red,), (of_blue,) = np.unique(look.face_material[~face_left]), np.unique(look.face_material[face_left])
    material = look.materials[of_red]
    assert material.base_color == (1, 0, 0, 1) and material.alpha_mode == "MASK" and material.double_sided
    assert material.alpha_cutoff == pytest.approx(0.3)
    shown = np.asarray(look.materials[of_blue].base_color) * look.vertex_colors[left]
    assert np.allclose(shown[:, 2], to_linear(np.array(188 / 255)), atol=0.01) and np.allclose(shown[:, :2], 0)


def test_textures_keep_their_way_up(tmp_path):
    """A square, red above and blue below, drawn from the front: red is above."""
    from sp4dlib.clips import fit_cameras, render

    image = Image.fromarray(np.array([[[255, 0, 0]], [[0, 0, 255]]], np.uint8).repeat(8, 0).repeat(16, 1))
    square = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]], process=False)
    square.visual = trimesh.visual.TextureVisuals(uv=[[0, 0], [1, 0], [1, 1], [0, 1]], image=image)
    for name in ("square.glb", "square.obj"):
        square.export(tmp_path / name)
        mesh = load_mesh(tmp_path / name)
        rgb, ids = render(mesh.vertices[None], mesh.faces, np.zeros(len(mesh.vertices), int),
                          fit_cameras(mesh.vertices, [0.0], [0.0], 32), mesh.appearance)
        upper, lower = rgb[0, 0, 10, 16].astype(int), rgb[0, 0, 22, 16].astype(int)
        assert upper[0] > upper[2] + 50 and lower[2] > lower[0] + 50, name


def test_a_saved_rig_loads_as_a_mesh(tmp_path):
    rig = rigs.quadruped()
    rigs.save(rig, tmp_path / "rig.glb")
    mesh = load_mesh(tmp_path / "rig.glb")
    assert len(mesh.faces) == len(rig.faces)
    assert np.allclose(mesh.vertices.min(0), rig.vertices.min(0), atol=1e-5)
    assert mesh.appearance is not None


def test_errors_name_the_file(tmp_path):
    cases = {"missing.obj": None, "text.md": b"hello", "broken.glb": b"glTF rubbish", "empty.obj": b"",
             "points.ply": b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\n"
                           b"property float z\nend_header\n0 0 0\n",
             "nan.obj": b"v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"}
    for name, content in cases.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(rigs.RigError, match=name.split(".")[0]):
            load_mesh(tmp_path / name)
