"""Rigged characters by Quaternius (quaternius.com, CC0): which they are, and where to get them.

The list, ``quaternius.json``, names each file with its sha256, its split (train, val, test) and the commit of the
public repository that holds it. A file is taken from ``SP4D_ASSETS``, a folder or ``.tar`` archive on this machine,
where that is set, and is downloaded from the repository at that commit otherwise. Every file is checked by sha256.

``python -m sp4dlib.rigs.assets`` lists the rigs, ``... fetch`` gets them all.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import logging
import os
import shutil
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sp4dlib.rigs.rig import Rig, RigError

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
VARIABLE = "SP4D_ASSETS"
HELP = (f"set {VARIABLE} to a folder or .tar.xz archive of the rigs, or unset it and connect to the network "
        "(then `python -m sp4dlib.rigs.assets fetch` downloads them once)")


class AssetError(RigError):
    """An asset that cannot be had; the message says which and why."""


@dataclass(frozen=True)
class Asset:
    """One file of the list.

    Attributes
    ----------
    name : str
        ``pack/Name``, unique.
    file : str
        Path below the list's root.
    bytes : int
    sha256 : str
    split : {"train", "val", "test"}
    joints, animations, vertices : int
    extensions : tuple of str
        glTF extensions that a reader must know.
    """

    name: str
    file: str
    bytes: int
    sha256: str
    split: str
    joints: int
    animations: int
    vertices: int
    extensions: tuple[str, ...]


@functools.cache
def _index() -> dict:
    return json.loads(Path(__file__).with_name("quaternius.json").read_text("utf-8"))


def about() -> dict[str, str]:
    """Author, license, source, and commit of the source, of all assets."""
    return {name: _index()[name] for name in ("author", "license", "source", "commit")}


@functools.cache
def registry() -> dict[str, Asset]:
    """All assets by full name, in the order of the list."""
    assets = [Asset(**{**entry, "name": str(PurePosixPath(entry["file"]).with_suffix("")),
                       "extensions": tuple(entry["extensions"])}) for entry in _index()["assets"]]
    return {asset.name: asset for asset in assets}


def names(split: str | None = None, plain: bool = False) -> list[str]:
    """Full names of the assets.

    Parameters
    ----------
    split : {"train", "val", "test"} or None
        None is all.
    plain : bool
        Leave out the ten whose meshes are under Draco compression, which other readers may not know.
    """
    if split is not None and split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, or None for all; got {split!r}")
    return [a.name for a in registry().values() if split in (None, a.split) and not (plain and a.extensions)]


def find(name: str) -> Asset:
    """The asset of a full name (``animals_pack/Fox``) or of a short one that is unique (``Fox``).

    Raises
    ------
    AssetError
        If no asset has that name, or several have.
    """
    if name in registry():
        return registry()[name]
    matches = [a for a in registry().values() if a.name.split("/")[-1] == name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise AssetError(f"{name!r} is the name of several assets; say which: {', '.join(a.name for a in matches)}")
    raise AssetError(f"no asset is named {name!r}; `sp4dlib.rigs.assets.names()` lists all "
                     f"{len(registry())}")


def path(name: str) -> Path:
    """Path of an asset's file, which is unpacked or downloaded if need be.

    Raises
    ------
    AssetError
        If the name is unknown, the file is missing from ``SP4D_ASSETS``, is damaged, or cannot be downloaded.
    """
    asset = find(name)
    local = os.environ.get(VARIABLE)
    if not local:
        return _download(asset)
    file = _local_root(Path(local).expanduser()) / asset.file
    if not file.is_file():
        raise AssetError(f"{asset.name} is not in {VARIABLE}={local}; {HELP}")
    _check(file, asset)
    return file


def load(name: str) -> Rig:
    """Load an asset; see :func:`path` for names and errors, :func:`sp4dlib.rigs.load` for the rest."""
    from sp4dlib.rigs import gltf

    return gltf.load(path(name)).replace(name=find(name).name)


def available(*wanted: str) -> bool:
    """Whether the named assets (by default one, the fox) can be had: local, downloaded before, or downloaded now.

    False is logged with its reason, so that a chapter can go on with procedural creatures and say so.
    """
    try:
        for name in wanted or ("animals_pack/Fox",):
            path(name)
    except AssetError as error:
        log.warning("%s", error)
        return False
    return True


def fetch_all(split: str | None = None) -> list[Path]:
    """Paths of all assets of a split, downloaded or unpacked if need be."""
    return [path(name) for name in names(split)]


def cache_folder() -> Path:
    """Where downloads and unpacked archives go: ``SP4D_CACHE``, or the user's cache folder."""
    import pooch

    return Path(os.environ.get("SP4D_CACHE") or pooch.os_cache("sp4d"))


def _download(asset: Asset) -> Path:
    import pooch
    import requests

    index = _index()
    repository = index["source"].removeprefix("https://github.com/")
    url = f"https://raw.githubusercontent.com/{repository}/{index['commit']}/{index['path']}/{asset.file}"
    target = cache_folder() / f"quaternius-{index['commit'][:12]}" / asset.file
    try:
        pooch.retrieve(url, f"sha256:{asset.sha256}", target.name, target.parent,
                       downloader=pooch.HTTPDownloader(timeout=20))
    except (requests.RequestException, OSError, ValueError) as error:
        raise AssetError(f"cannot download {asset.name} from {url} ({type(error).__name__}); {HELP}") from error
    return target


@functools.cache
def _local_root(local: Path) -> Path:
    """The folder that holds the packs: in or below a folder, or in the cache, unpacked from an archive."""
    if not local.exists():
        raise AssetError(f"{VARIABLE} names {local}, which does not exist; {HELP}")
    if local.is_file():
        return _unpack(local)
    packs = {asset.file.split("/")[0] for asset in registry().values()}
    for candidate in (local, local / "quaternius", local / _index()["path"]):
        if any((candidate / pack).is_dir() for pack in packs):
            return candidate
    raise AssetError(f"{VARIABLE}={local} holds none of the packs {', '.join(sorted(packs))}; {HELP}")


def _unpack(archive: Path) -> Path:
    """Unpack the assets of ``archive`` into the cache, once; safe when several processes do it at the same time.

    Each process unpacks into a folder of its own and renames it, so that a folder of the final name is complete.
    """
    stat = archive.stat()
    key = hashlib.sha256(f"{archive.resolve()} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:12]
    target = cache_folder() / f"quaternius-local-{key}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    files = {asset.file: asset for asset in registry().values()}
    scratch = Path(tempfile.mkdtemp(prefix=target.name, dir=target.parent))
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                file = "/".join(PurePosixPath(member.name).parts[-2:])      # pack/Name.glb, below any folders
                if not member.isfile() or file not in files:
                    continue
                (scratch / file).parent.mkdir(exist_ok=True)
                (scratch / file).write_bytes(tar.extractfile(member).read())
                _check(scratch / file, files[file])
        if not any(scratch.iterdir()):
            raise AssetError(f"{VARIABLE}={archive} holds none of the {len(files)} rigs; {HELP}")
        try:
            scratch.rename(target)
        except OSError:
            if not target.is_dir():     # otherwise another process was quicker: its copy is as good
                raise
    except (tarfile.TarError, EOFError, OSError) as error:
        raise AssetError(f"cannot unpack {VARIABLE}={archive} ({error}); {HELP}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


@functools.cache
def _check(file: Path, asset: Asset) -> None:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if digest != asset.sha256:
        raise AssetError(f"{file} is not the file of the list: its sha256 is {digest}, not {asset.sha256}; "
                         "delete it and get it again")


def main(arguments: list[str] | None = None) -> int:
    """Command line: list the assets, or fetch them."""
    parser = argparse.ArgumentParser("python -m sp4dlib.rigs.assets", description=__doc__.split("\n")[0])
    parser.add_argument("command", nargs="?", choices=("list", "fetch"), default="list")
    parser.add_argument("--split", choices=SPLITS)
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "fetch":
            files = fetch_all(chosen.split)
            print(f"{len(files)} rigs in {files[0].parent.parent}")
        else:
            for name in names(chosen.split):
                a = find(name)
                print(f"{a.name:45} {a.split:6} {a.joints:3} joints {a.animations:3} animations {a.vertices:6} vertices"
                      + "".join(f"  needs {e}" for e in a.extensions))
    except AssetError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
