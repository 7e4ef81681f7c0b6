"""Written rigs in others' hands: the Khronos validator, an independent reader, and three.js in Chromium."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from pathlib import Path

import node_tools
import numpy as np
import pytest
from browser.conftest import FLAGS, find_chromium
from gltf_reference import Reference
from lifting_meshes import animal, joined, thirds, tube

from benchmarks.rigging_twins import TWINS, twin
from sp4dlib.clips import kinematic_parts
from sp4dlib.lifting import auto_rig, extract_skeleton, part_drivers, retarget
from sp4dlib.rigs import Rig, save
from sp4dlib.rigs import assets as registry

SHOTS = Path(__file__).resolve().parents[1] / "_build" / "screenshots"


def walking() -> Rig:
    """The quadruped, rigged anew from its parts and walking as it did, with colours."""
    rig = animal(1500)
    parts = kinematic_parts(rig)
    new = auto_rig(rig.strip(), labels=parts.labels, names=parts.names)
    _, joint_part = extract_skeleton(rig, parts.labels, parts.names, return_parts=True)
    walk = retarget(new.skeleton, rig, "walk", part_drivers(rig, parts.labels, joint_part), fps=10)
    return new.replace(animations=(walk, *new.animations), name="walking")


def rigged() -> dict[str, Rig]:
    """Rigs of many kinds of mesh, each with an animation."""
    pipe = tube()
    made = {"walking": walking(), "tube": auto_rig(pipe, labels=thirds(pipe)),
            "one part": auto_rig(pipe, labels=np.zeros(len(pipe.vertices), int))}
    apart = tube()
    apart = joined(pipe, type(apart)(apart.vertices + [0, 2, 0], apart.faces))
    made["two shells"] = auto_rig(apart, labels=np.concatenate([thirds(pipe), 3 + thirds(pipe)]))
    for name in TWINS[1:]:
        broken = twin(name, 800)
        made[name] = auto_rig(broken.mesh, labels=broken.weights.argmax(1))
    return made


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, tuple[Rig, Path]]:
    folder = tmp_path_factory.mktemp("rigs")
    return {name: (rig, save(rig, folder / f"{name}.glb")) for name, rig in rigged().items()}


def test_every_file_is_valid(files):
    node_tools.install("gltf-validator")
    for report in node_tools.validate([path for _, path in files.values()]):
        assert report["errors"] == report["warnings"] == 0, (report["file"], report["messages"])


def test_an_independent_reader_deforms_alike(files):
    for name, (rig, path) in files.items():
        reader = Reference(path)
        for index, animation in enumerate(rig.animations):
            time = 0.37 * animation.duration
            ours = rig.pose(index, [time])[0]
            np.testing.assert_allclose(reader.positions(index, time), ours, atol=1e-5 * rig.size, err_msg=name)
            assert np.abs(ours - rig.vertices).max() > 1e-3 * rig.size, f"{name}: nothing moves"


def test_a_real_animal_is_valid_and_moves_alike(assets, tmp_path):
    rig = registry.load("animals_pack/Alpaca")
    parts = kinematic_parts(rig)
    new = auto_rig(rig.strip(), labels=parts.labels, names=parts.names)
    path = save(new, tmp_path / "alpaca.glb")
    node_tools.install("gltf-validator")
    report = node_tools.validate([path])[0]
    assert report["errors"] == report["warnings"] == 0, report["messages"]
    time = 0.37 * new.animations[0].duration
    read = Reference(path).positions(0, time).reshape(-1, *new.vertices.shape)       # once for each material
    np.testing.assert_allclose(read, np.broadcast_to(new.pose(0, [time]), read.shape), atol=1e-5 * new.size)


@pytest.fixture(scope="module")
def site(files, tmp_path_factory):
    """Address of a local server that holds the page, three.js and the walking rig."""
    three = node_tools.install("three")
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(node_tools.NODE / "play.html", folder)
    shutil.copy(files["walking"][1], folder / "rig.glb")
    (folder / "node_modules").mkdir()
    (folder / "node_modules" / "three").symlink_to(three)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def page(site):
    """The page in headless Chromium, with what it complained about; skips where there is no Chromium."""
    from playwright.sync_api import sync_playwright

    path = find_chromium()
    if path is None:
        message = "three.js needs Chromium (Debian: apt install chromium; else: playwright install chromium)"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    with sync_playwright() as playwright:
        flags = [flag for flag in FLAGS if "host-resolver" not in flag]
        flags.append("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        opened = browser.new_page(viewport={"width": 480, "height": 480})
        opened.set_default_timeout(120_000)
        opened.complaints = []
        opened.on("console", lambda said: said.type == "error" and "favicon" not in said.location.get("url", "")
                  and opened.complaints.append(said.text))
        opened.on("pageerror", lambda error: opened.complaints.append(str(error)))
        opened.goto(f"{site}/play.html")
        opened.wait_for_function("window.about")
        yield opened
        browser.close()


def test_three_js_loads_it_and_plays(files, page):
    rig, _ = files["walking"]
    about = page.evaluate("window.about")
    assert about["name"] == "walk" and about["duration"] == pytest.approx(rig.animations[0].duration, abs=1e-5)
    times = np.array([0.0, 0.2, 0.55]) * rig.animations[0].duration
    SHOTS.mkdir(parents=True, exist_ok=True)
    shots = []
    for i, time in enumerate(times):
        points = np.array(page.evaluate("t => window.pose(t)", time))
        np.testing.assert_allclose(points, rig.pose(0, [time])[0], atol=1e-5 * rig.size)
        shots.append(page.screenshot(path=SHOTS / f"three-walking-{i}.png"))
    assert page.complaints == []
    assert len(set(shots)) == len(times), "three.js draws the same picture at every time"


def test_three_js_draws_the_animal_in_colour(page):
    import io

    from PIL import Image

    page.evaluate("window.pose(0)")
    picture = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"), int)
    drawn = (picture < 245).any(-1)
    assert 0.05 < drawn.mean() < 0.6
    assert np.ptp(picture[drawn], axis=1).mean() > 10           # the coat is no grey
