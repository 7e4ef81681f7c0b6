"""Clips in WebDataset shards: plain tar files that any tool reads, with an index for random access.

A clip of T frames and V views is 2 + 2 T V files that share a name up to the first dot, its *key*:

=========================  ============================================================================
``KEY.json``               names, part tree, cameras, source, licence, split, what was measured
``KEY.npz``                ``centers``, ``boxes``, ``times``, ``part_parents``, ``azimuths``, ``elevations``,
                           ``normalize`` as :class:`~sp4dlib.clips.clip.Clip` has them
``KEY.t00v00.rgb.png``     colour of frame 0 in view 0, 8 bits
``KEY.t00v00.parts.png``   part ids + 1, one channel of 8 bits; 0 is background
=========================  ============================================================================

Nothing is lost: colour and ids are exact, numbers keep their 64 bits. Spatial colours and latents are not stored,
because they follow from ids, centres and boxes once frame 0 and view 0 are chosen. Headers are USTAR with no time and
no owner, so that equal clips are equal bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sp4dlib.clips.cameras import Cameras
from sp4dlib.clips.clip import ARRAYS, CAMERA_ARRAYS, CAMERA_NUMBERS, VERSION, Clip

MOST_PARTS = 255        # ids are stored in 8 bits, and one of their values is the background
BLOCK = 512             # tar's unit
ENDING = 2 * BLOCK      # of zeros, after the last file
NUMBERS = tuple(name for name in ARRAYS if name not in ("rgb", "parts"))


@dataclass(frozen=True)
class Packed:
    """A clip as the part of a tar file that holds it.

    Attributes
    ----------
    key : str
    data : bytes
        Headers and contents, padded to whole blocks.
    sizes : ndarray of int32, shape (2 + 2 T V,)
        Bytes of each file, in the order of :func:`member_names`.
    """

    key: str
    data: bytes
    sizes: np.ndarray


def member_names(key: str, frames: int, views: int) -> list[str]:
    """Files of a clip in the order in which they lie in its shard."""
    images = [f"{key}.t{t:02d}v{v:02d}.{kind}.png" for t in range(frames) for v in range(views)
              for kind in ("rgb", "parts")]
    return [f"{key}.json", f"{key}.npz", *images]


def pack_clip(clip: Clip, key: str, about: dict) -> Packed:
    """Bytes of a clip; equal clips give equal bytes.

    Parameters
    ----------
    clip : Clip
        With at most 255 parts.
    key : str
        Without dots.
    about : dict
        What else the JSON file shall hold.

    Raises
    ------
    ValueError
        If the clip has more parts than 8 bits can number, or the key holds a dot.
    """
    if len(clip.names) > MOST_PARTS:
        raise ValueError(f"{key} has {len(clip.names)} parts; ids are stored in 8 bits, which number {MOST_PARTS}")
    if "." in key:
        raise ValueError(f"a key ends at its first dot, so it cannot hold one; got {key!r}")
    frames, views = clip.parts.shape[:2]
    text = {**about, "version": VERSION, "source": clip.source, "frames": frames, "views": views,
            "names": clip.names, "cameras": {name: getattr(clip.cameras, name) for name in CAMERA_NUMBERS}}
    buffer = io.BytesIO()
    np.savez(buffer, **{name: getattr(clip, name) for name in NUMBERS},
             **{name: getattr(clip.cameras, name) for name in CAMERA_ARRAYS})
    contents = [json.dumps(text, default=lambda number: number.item()).encode(), buffer.getvalue()]
    for t in range(frames):
        for v in range(views):
            contents += [encode_png(clip.rgb[t, v]), encode_png((clip.parts[t, v] + 1).astype(np.uint8))]
    return Packed(key, b"".join(map(tar_member, member_names(key, frames, views), contents)),
                  np.array([len(content) for content in contents], np.int32))


def tar_member(name: str, content: bytes) -> bytes:
    """Header, content and padding of one file of a tar archive; nothing in it depends on who writes it, or when."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o644
    return info.tobuf(tarfile.USTAR_FORMAT, "ascii") + content + bytes(-len(content) % BLOCK)


def member_offsets(sizes: np.ndarray) -> np.ndarray:
    """Where each file's content begins, counted from the clip's first header; and in the end, where the clip ends."""
    steps = BLOCK + (np.asarray(sizes, np.int64) + BLOCK - 1) // BLOCK * BLOCK
    starts = np.concatenate([[0], np.cumsum(steps)])
    starts[:-1] += BLOCK
    return starts


def encode_png(image: np.ndarray) -> bytes:
    """PNG file of a uint8 image (H, W) or (H, W, 3).

    Each row of a colour image is stored as the difference from the row above (PNG's filter 2), ids as they are, and
    only runs of equal bytes are looked for. On drawn pictures that is three times as fast as Pillow's fastest level,
    which tries five filters for each row, and the files are smaller.
    """
    height, width = image.shape[:2]
    rows = image.reshape(height, -1)
    filtered = np.empty((height, rows.shape[1] + 1), np.uint8)
    filtered[:, 0], filtered[:, 1:] = 0, rows
    if image.ndim == 3:
        filtered[:, 0] = 2
        np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    squeeze = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if image.ndim == 2 else 2, 0, 0, 0)
    data = squeeze.compress(filtered.tobytes()) + squeeze.flush()
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def decode_png(content: bytes) -> np.ndarray:
    """The array of a PNG file."""
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)


@dataclass(frozen=True)
class Index:
    """Where the clips of a shard lie; all have one number of frames and views.

    Attributes
    ----------
    keys : ndarray of str, shape (S,)
    starts : ndarray of int64, shape (S,)
        Byte at which each clip's first header begins.
    sizes : ndarray of int32, shape (S, 2 + 2 T V)
    views : int
    """

    keys: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    views: int

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def frames(self) -> int:
        """T."""
        return (self.sizes.shape[1] - 2) // (2 * self.views)

    def save(self, path: Path) -> None:
        """Write to an ``.npz`` file, whole or not at all."""
        buffer = io.BytesIO()
        np.savez(buffer, keys=self.keys, starts=self.starts, sizes=self.sizes, views=np.array(self.views))
        write_whole(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> Index:
        """Read what :meth:`save` wrote; ValueError if it cannot be."""
        try:
            with np.load(path, allow_pickle=False) as file:
                return cls(file["keys"], file["starts"], file["sizes"], int(file["views"]))
        except (KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} cannot be read: {error}") from error


def index_path(shard: Path) -> Path:
    """The index of a shard lies beside it."""
    return shard.with_suffix(".index.npz")


def write_shard(path: Path, clips: Iterable[Packed], views: int) -> Index:
    """Write a shard and its index; each is complete or not there, the shard last."""
    keys, starts, sizes, at = [], [], [], 0
    partial = path.with_name(path.name + ".part")
    with open(partial, "wb") as file:
        for clip in clips:
            keys.append(clip.key)
            starts.append(at)
            sizes.append(clip.sizes)
            at += file.write(clip.data)
        file.write(bytes(ENDING))
        file.flush()
        os.fsync(file.fileno())
    index = Index(np.array(keys), np.array(starts, np.int64), np.stack(sizes), views)
    index.save(index_path(path))
    os.replace(partial, path)
    return index


def read_clip(path: Path, index: Index, row: int,
              choose: Callable[[Clip], tuple[np.ndarray, np.ndarray]] | None = None) -> Clip:
    """A clip of a shard, or some of its frames and views: only their pictures are read and decoded.

    Parameters
    ----------
    path : Path
        Of the shard.
    index : Index
    row : int
        Number of the clip in the shard.
    choose : callable, optional
        Is given the clip, with empty pictures, and returns the frames and views that :meth:`Clip.select` shall take.

    Returns
    -------
    Clip

    Raises
    ------
    ValueError
        If the shard is damaged there.
    """
    offsets, sizes = member_offsets(index.sizes[row]) + index.starts[row], index.sizes[row]
    with open(path, "rb") as file:
        def content(member: int) -> bytes:
            file.seek(offsets[member])
            return file.read(sizes[member])

        try:
            clip = _without_pictures(json.loads(content(0)), content(1))
            frames, views = np.arange(index.frames), np.arange(index.views)
            if choose is not None:
                frames, views = choose(clip)
                clip = clip.select(frames, views)
            rgb, parts = np.empty(clip.rgb.shape, np.uint8), np.empty(clip.parts.shape, np.int16)
            for t, frame in enumerate(frames):
                for v, view in enumerate(views):
                    member = 2 + 2 * (int(frame) * index.views + int(view))
                    rgb[t, v] = decode_png(content(member))
                    parts[t, v] = decode_png(content(member + 1)).astype(np.int16) - 1
        except (ValueError, KeyError, OSError, EOFError, SyntaxError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is damaged at {index.keys[row]}: {error}; build it again") from error
    return replace(clip, rgb=rgb, parts=parts)


def read_about(path: Path, index: Index, row: int) -> dict:
    """The JSON file of a clip."""
    with open(path, "rb") as file:
        file.seek(index.starts[row] + BLOCK)
        return json.loads(file.read(index.sizes[row, 0]))


def _without_pictures(text: dict, arrays: bytes) -> Clip:
    """A clip with pictures that take no memory, for :meth:`Clip.select` to choose from."""
    if text["version"] != VERSION:
        raise ValueError(f"its version is {text['version']} and {VERSION} is read here")
    with np.load(io.BytesIO(arrays), allow_pickle=False) as file:
        numbers = {name: file[name] for name in NUMBERS}
        cameras = Cameras(**{name: file[name] for name in CAMERA_ARRAYS}, **text["cameras"])
    shape = (text["frames"], text["views"], cameras.size, cameras.size)
    return Clip(rgb=np.broadcast_to(np.uint8(0), (*shape, 3)), parts=np.broadcast_to(np.int16(0), shape),
                cameras=cameras, names=tuple(text["names"]), source=text["source"], **numbers)


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file that is complete or not there, and on the disk when this returns."""
    partial = path.with_name(path.name + ".part")
    with open(partial, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def file_hash(path: Path) -> str:
    """sha256 of a file of any size."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def read_manifest(root: str | Path) -> dict:
    """The manifest of a set.

    Raises
    ------
    FileNotFoundError
        If there is none: the folder holds no set, or an unfinished one.
    """
    path = Path(root).absolute() / "manifest.json"
    if not path.is_file():
        unfinished = path.parent.with_name(path.parent.name + ".part").is_dir()
        raise FileNotFoundError(f"{root} holds no training set (no manifest.json)"
                                + ("; its build is unfinished: run the same `sp4d data build` again" * unfinished))
    return json.loads(path.read_text(encoding="utf-8"))
