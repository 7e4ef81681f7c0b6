"""Rigs that public packages carry, read into :class:`~sp4dlib.rigs.Rig`: a hand, a rodent, a dog and a jersey.

* hand: the left hand of npm ``@webxr-input-profiles/assets`` (MIT), a GLB that stores its 25 joints flat; the chains
  of the fingers are rebuilt from the names, which the WebXR Hand Input specification fixes.
* rodent, dog, jersey: PyPI ``dm-control`` (Apache-2.0): MuJoCo skins (``.skn``) over the body trees of MJCF files.

Files are looked for below ``--references`` or ``SP4D_REFERENCES`` (an installed dm-control or a folder of unpacked
packages, any depth), then in the cache; what is missing there is fetched once with ``pip download`` and ``npm pack``.
"""

from __future__ import annotations

import logging
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from sp4dlib import rigs
from sp4dlib.rigs import Rig, RigError, Skeleton
from sp4dlib.rigs.assets import cache_folder

VARIABLE = "SP4D_REFERENCES"
PACKAGES = {"dm_control": ("pip", "dm-control==1.0.50"), "webxr": ("npm", "@webxr-input-profiles/assets@1.0.20")}
ASSETS = "dm_control/locomotion/"
FILES = {
    "hand": ("webxr", "generic-hand/left.glb"),
    "rodent": ("dm_control", ASSETS + "walkers/assets/rodent_walker_skin.skn", ASSETS + "walkers/assets/rodent.xml"),
    "dog": ("dm_control", ASSETS + "walkers/assets/dog_v2/dog_skin.skn", ASSETS + "walkers/assets/dog_v2/dog.xml"),
    "jersey": ("dm_control", ASSETS + "soccer/assets/humanoid/jersey.skn",
               ASSETS + "walkers/assets/humanoid_CMU_V2020.xml"),
}
FINGER = ("metacarpal", "phalanx-proximal", "phalanx-intermediate", "phalanx-distal", "tip")
WANTED = (".skn", ".xml", ".glb")

log = logging.getLogger(__name__)


def load(name: str, folder: str | Path | None = None) -> Rig:
    """One of the rigs of :data:`FILES`; y is up.

    Parameters
    ----------
    name : str
    folder : path, optional
        Where to look first; default ``SP4D_REFERENCES``.

    Raises
    ------
    RigError
        If the files are not found and cannot be fetched.
    """
    package, *ends = FILES[name]
    paths = [find(package, end, folder) for end in ends]
    rig = read_hand(*paths) if name == "hand" else read_skin(*paths)
    return rig.replace(name=name)


def find(package: str, end: str, folder: str | Path | None = None) -> Path:
    """The file whose path ends in ``end``, below ``folder``, in the cache, or fetched into the cache."""
    folder = folder or os.environ.get(VARIABLE)
    cache = cache_folder() / "references" / package
    for root in filter(None, (folder, cache)):
        for path in sorted(Path(root).expanduser().resolve().rglob(Path(end).name)):
            if path.as_posix().endswith(end):
                return path
    if cache.is_dir():
        raise RigError(f"{cache} has no {end}; delete it, and the package will be fetched again")
    fetch(package, cache)
    return find(package, end, folder)


def fetch(package: str, target: Path) -> None:
    """Get a package with its own client and unpack the files of interest; complete or not at all."""
    client, version = PACKAGES[package]
    target.parent.mkdir(parents=True, exist_ok=True)
    log.info("fetching %s with %s", version, client)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "-q", "-d", scratch,
                   version] if client == "pip" else ["npm", "pack", "--silent", version]
        try:
            subprocess.run(command, cwd=scratch, check=True, capture_output=True, text=True, timeout=600)
        except (OSError, subprocess.SubprocessError) as error:
            detail = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1:]
            raise RigError(f"cannot fetch {version}: {' '.join(detail)}; unpack it by hand and name the folder with "
                           f"--references or {VARIABLE}") from error
        unpacked = Path(scratch, "unpacked")
        for archive in Path(scratch).iterdir():
            _unpack(archive, unpacked)
        shutil.move(unpacked, target)


def _unpack(archive: Path, target: Path) -> None:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(target, [n for n in wheel.namelist() if n.endswith(WANTED)])
    else:
        with tarfile.open(archive) as tar:
            tar.extractall(target, [m for m in tar.getmembers() if m.name.endswith(WANTED)], filter="data")


def read_hand(path: Path) -> Rig:
    """The WebXR hand with its joints in chains: wrist, and from there metacarpal to tip of each finger."""
    rig = rigs.load(path)
    names = list(rig.skeleton.names)
    parents = []
    for name in names:
        finger = next((name[:-len(f"-{part}")] for part in FINGER if name.endswith(f"-{part}")), None)
        chain = ["wrist"] + [f"{finger}-{part}" for part in FINGER if f"{finger}-{part}" in names]
        parents.append(chain[chain.index(name) - 1] if finger else None)
    return from_parts(rig.vertices, rig.faces, rig.weights, rig.skeleton.joints, parents, names)


def read_skin(skin: Path, tree: Path) -> Rig:
    """A MuJoCo skin with the body tree of an MJCF file; MuJoCo's z is up and becomes y.

    The layout is that of MuJoCo's XML reference, ``asset/skin``: four int32 counts (vertices, texture coordinates,
    faces, bones); float32 positions and coordinates; int32 faces; for each bone a name of 40 bytes, a bind position
    (3) and quaternion (4), a count, that many vertex ids, that many weights.
    """
    content = skin.read_bytes()
    vertices, coordinates, faces, bones = struct.unpack_from("<4i", content)
    at = 16
    points = np.frombuffer(content, "<f4", 3 * vertices, at).reshape(-1, 3).astype(float)
    at += 12 * vertices + 8 * coordinates
    triangles = np.frombuffer(content, "<i4", 3 * faces, at).reshape(-1, 3).astype(np.int64)
    at += 12 * faces
    weights, names, joints = np.zeros((vertices, bones)), [], []
    for bone in range(bones):
        names.append(content[at:at + 40].split(b"\0")[0].decode().rsplit("/", 1)[-1])
        joints.append(np.frombuffer(content, "<f4", 3, at + 40).astype(float))
        count, = struct.unpack_from("<i", content, at + 68)
        at += 72
        weights[np.frombuffer(content, "<i4", count, at), bone] += np.frombuffer(content, "<f4", count, at + 4 * count)
        at += 8 * count
    above = body_parents(tree)
    parents = []
    for name in names:
        parent = above.get(name)
        while parent is not None and parent not in names:
            parent = above.get(parent)
        parents.append(parent)
    upright = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    return from_parts(points @ upright.T, triangles, weights, np.array(joints) @ upright.T, parents, names)


def body_parents(path: Path) -> dict[str, str | None]:
    """Parent body of each body of an MJCF file, by name without its scope."""
    out: dict[str, str | None] = {}

    def visit(element, parent: str | None) -> None:
        for child in element:
            if child.tag == "body" and child.get("name"):
                name = child.get("name").rsplit("/", 1)[-1]
                out[name] = parent
                visit(child, name)
            else:
                visit(child, parent)

    visit(ElementTree.parse(path).getroot(), None)
    return out


def from_parts(vertices, faces, weights, joints, parents, names) -> Rig:
    """A rig of joints in any order, bind matrices being translations; ``parents`` are names, None at roots.

    Joints without weight are dropped, their children going to the nearest ancestor that has some. If several roots
    remain, a weightless joint ``root`` at the mean of them becomes joint 0.
    """
    weights = np.asarray(weights, np.float64)
    names, above = list(names), dict(zip(names, parents))
    carries = dict(zip(names, weights.sum(0) > 1e-9))
    for name in names:
        while above[name] is not None and not carries[above[name]]:
            above[name] = above[above[name]]
    kept = [name for name in names if carries[name]]
    order: list[str | None] = [name for name in kept if above[name] is None]
    roots = list(order)
    for name in order:                                          # grows while it is walked: breadth first
        order += [child for child in kept if above[child] == name]
    column = [names.index(name) for name in order]
    places, weights = np.asarray(joints, np.float64)[column], weights[:, column]
    tree = np.array([-1 if above[name] is None else order.index(above[name]) for name in order])
    if len(roots) > 1:
        places = np.concatenate([places[:len(roots)].mean(0)[None], places])
        weights = np.concatenate([np.zeros((len(weights), 1)), weights], 1)
        tree, order = np.concatenate([[-1], tree + 1]), ["root", *order]
    bind = np.tile(np.eye(4), (len(order), 1, 1))
    bind[:, :3, 3] = places
    weights /= np.maximum(weights.sum(1, keepdims=True), 1e-12)
    return Rig(vertices, faces, weights, Skeleton(tree, tuple(order), bind))
