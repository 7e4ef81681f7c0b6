"""The container of a glTF 2.0 file: JSON, buffers, accessors, images. What they mean is :mod:`~sp4dlib.rigs.gltf`.

Files come from anywhere, so nothing that one says is believed before it is checked. Counts are compared with the bytes
that are there; what is decoded is counted against a budget that grows with the file, because a small file can name the
same bytes many times, or none at all, and ask for any number of zeros; pictures are measured before they are unpacked;
and a path leads into the file's own folder or nowhere.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import struct
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np

from sp4dlib.rigs.rig import RigError

log = logging.getLogger(__name__)

COMPONENTS = {5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
SHAPES = {"SCALAR": (1, 1), "VEC2": (2, 1), "VEC3": (3, 1), "VEC4": (4, 1), "MAT2": (2, 2), "MAT3": (3, 3),
          "MAT4": (4, 4)}
READABLE = {"KHR_mesh_quantization", "KHR_texture_transform", "EXT_texture_webp", "KHR_draco_mesh_compression"}
# What these say is left out, and the shape, the parts and the motion are the same without it.
HARMLESS = {"KHR_lights_punctual", "KHR_texture_basisu", "MSFT_texture_dds", "EXT_texture_avif", "KHR_xmp_json_ld",
            "EXT_lights_image_based", "EXT_lights_ies"}
COMPRESSION = {"EXT_meshopt_compression", "KHR_meshopt_compression"}
WRAPS = {"REPEAT": 10497, "CLAMP": 33071, "MIRROR": 33648}
HEADER, JSON_CHUNK, BINARY_CHUNK = 0x46546C67, 0x4E4F534A, 0x004E4942

MAX_FILE = 2**30        # bytes of a file, and of all the files it names together
MAX_CHUNKS = 16
# At most the first number, and at most the second plus the third for every byte read, of: bytes that are decoded from
# accessors, as 64-bit numbers (some four million vertices); bytes of weights, vertices times joints; texels of all
# images together (four of 8192 x 8192). Copies of a part, compression and plain colours multiply what a file holds by
# ten or a hundred; more is no model.
BUDGETS = {"numbers": (2**29, 2**26, 256), "weights": (2**30, 2**27, 1024), "texels": (2**28, 2**25, 1024),
           "files": (MAX_FILE, MAX_FILE, 0)}


class GltfFile:
    """An opened .glb or .gltf file.

    Parameters
    ----------
    path : Path
    max_texture : int or None
        Images of more texels than this along a side are reduced to it.

    Attributes
    ----------
    json : dict
        The document.
    notes : dict of str to None
        What :meth:`note` was told, in order.

    Raises
    ------
    RigError
        If the file is missing, damaged, of another version, or requires an extension that cannot be read.
    """

    def __init__(self, path: Path, max_texture: int | None = None) -> None:
        self.path = path
        self.max_texture = max_texture
        self.notes: dict[str, None] = {}
        self._spent = dict.fromkeys(BUDGETS, 0)
        content = self._content(path, "check the path")
        text, self._binary = self._split(content)
        try:
            self.json = json.loads(str(text, "utf-8"))
        except (ValueError, RecursionError) as error:
            raise self.damaged(f"its JSON cannot be parsed ({error})") from error
        version = self.json.get("asset", {}).get("version") if isinstance(self.json, dict) else None
        if not str(version).startswith("2."):
            raise RigError(f"{path} is glTF version {version}, not 2.x; export it again as glTF 2.0")
        self._check_extensions()
        self._buffers: dict[int, np.ndarray] = {}
        self._files: dict[Path, bytes] = {}

    def damaged(self, what: str) -> RigError:
        """The error of a file that contradicts itself."""
        return damaged(self.path, what)

    def note(self, message: str, level: int = logging.INFO) -> None:
        """Log, and keep for the rig, what is left out or mended; the same message only once."""
        if message not in self.notes:
            self.notes[message] = None
            log.log(level, "%s: %s", self.path.name, message)

    def spend(self, amount: int, what: str, budget: str = "numbers") -> None:
        """Count ``amount`` against one of the ``BUDGETS`` before it is allocated."""
        most, free, share = BUDGETS[budget]
        self._spent[budget] += amount
        limit = min(most, free + share * self._spent["files"])
        if self._spent[budget] > limit:
            raise RigError(f"{self.path} is too large: {what} brings its {budget} to {self._spent[budget]:.4g} of "
                           f"{limit:.4g}; reduce the mesh, the textures or the number of copies, and export it again")

    def integer(self, entry: dict, key: str, what: str, default: int | None = None) -> int:
        """A count, size, offset or index: a whole number that is not negative."""
        value = entry.get(key, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.damaged(f"the {key} of {what} is {value!r:.40}")
        return value

    def _content(self, path: Path, mend: str) -> bytes:
        try:
            if path.exists() and not path.is_file():        # a device or a pipe may never end
                raise RigError(f"cannot read {path} (it is no file); {mend}")
            with path.open("rb") as file:
                content = file.read(MAX_FILE + 1)
        except (OSError, ValueError) as error:              # ValueError: a name with a null byte
            if isinstance(error, RigError):
                raise
            raise RigError(f"cannot read {path} ({getattr(error, 'strerror', None) or error}); {mend}") from error
        self.spend(len(content), path.name, "files")
        return content

    def _split(self, content: bytes) -> tuple[memoryview, memoryview | None]:
        """JSON and binary chunk of a .glb; a .gltf is all JSON."""
        if not content:
            raise self.damaged("it is empty")
        if content[:64].lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{":
            return memoryview(content)[content.index(b"{"):], None
        if len(content) < 20 or struct.unpack_from("<I", content)[0] != HEADER:
            raise RigError(f"{self.path} is neither a .glb nor a .gltf file (wrong first bytes); export it as glTF 2.0")
        _, version, length = struct.unpack_from("<3I", content)
        if version != 2:
            raise RigError(f"{self.path} is binary glTF version {version}, not 2; export it again as glTF 2.0")
        if length > len(content):
            raise self.damaged(f"it is cut off after {len(content)} of {length} bytes")
        chunks, at, view = {}, 12, memoryview(content)
        for _ in range(MAX_CHUNKS):                         # two are of use, and they come first
            if at + 8 > length:
                break
            size, kind = struct.unpack_from("<2I", content, at)
            if at + 8 + size > length:
                raise self.damaged("a chunk reaches beyond its end")
            chunks.setdefault(kind, view[at + 8:at + 8 + size])
            at += 8 + size
        if JSON_CHUNK not in chunks:
            raise self.damaged("it has no JSON chunk")
        return chunks[JSON_CHUNK], chunks.get(BINARY_CHUNK)

    def _check_extensions(self) -> None:
        for name in self.json.get("extensionsRequired", []):
            if name in COMPRESSION:
                raise RigError(f"{self.path} needs {name}, which cannot be read; export it again without meshopt "
                               "compression (gltfpack: leave out -c and -cc)")
            if name not in READABLE | HARMLESS and not name.startswith("KHR_materials_"):
                raise RigError(f"{self.path} needs {name}, which cannot be read; export it again without that "
                               "extension")
            if name not in READABLE:
                self.note(f"{name} is left out")

    def items(self, kind: str) -> list[dict]:
        """A top-level array such as ``nodes``; empty if the file has none."""
        return self.json.get(kind, [])

    def item(self, kind: str, index: int) -> dict:
        """One element of a top-level array, with a clear error where there is none."""
        items = self.items(kind)
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(items):
            raise self.damaged(f"it names {kind}[{index!r:.40}] of {len(items)}")
        return items[index]

    def _uri(self, uri: str, what: str) -> bytes:
        if uri.startswith("data:"):
            head, _, body = uri.partition(",")
            try:
                if head.endswith(";base64"):
                    return base64.b64decode(body, validate=True)
                return unquote(body).encode("latin1")
            except ValueError as error:
                raise self.damaged(f"the data URI of {what} cannot be decoded ({error})") from error
        file = self._beside(uri, what)
        if file not in self._files:
            self._files[file] = self._content(file, f"{self.path} needs it: put that file beside it, or export as .glb")
        return self._files[file]

    def _beside(self, uri: str, what: str) -> Path:
        """The file that a relative path names, in the folder of this one or below; also through links."""
        try:
            file = (self.path.parent / unquote(uri)).resolve()
            folders = (self.path.parent.resolve(), self.path.resolve().parent)      # both, if this file is a link
        except (OSError, ValueError, RuntimeError) as error:                        # a circle of links, a null byte
            raise self.damaged(f"{what} names the file {uri!r:.80} ({error})") from error
        if urlsplit(uri).scheme or not any(file.is_relative_to(folder) for folder in folders):
            raise RigError(f"{self.path} names {uri!r:.80} as {what}, which leads out of its folder, and such files "
                           "are not read; put that file beside it, or export as .glb")
        return file

    def _buffer(self, index: int) -> np.ndarray:
        if index not in self._buffers:
            entry, what = self.item("buffers", index), f"buffers[{index}]"
            if "uri" in entry:
                content = self._uri(entry["uri"], what)
            elif index == 0 and self._binary is not None:
                content = self._binary
            else:
                raise self.damaged(f"{what} has no data")
            size = self.integer(entry, "byteLength", what)
            if len(content) < size:
                raise self.damaged(f"{what} holds {len(content)} of {size} bytes")
            self._buffers[index] = np.frombuffer(content, np.uint8, size)
        return self._buffers[index]

    def view(self, index: int) -> tuple[np.ndarray, int]:
        """Bytes of a buffer view, and its stride, 0 for none."""
        entry, what = self.item("bufferViews", index), f"bufferViews[{index}]"
        buffer, start = self._buffer(entry["buffer"]), self.integer(entry, "byteOffset", what, 0)
        size = self.integer(entry, "byteLength", what)
        if start + size > len(buffer):
            raise self.damaged(f"{what} reaches beyond its buffer")
        return buffer[start:start + size], self.integer(entry, "byteStride", what, 0)

    def _read(self, view: int, offset: int, count: int, component: int, kind: str, what: str) -> np.ndarray:
        """``count`` elements from a buffer view, shape (count, components), row-major as stored."""
        if component not in COMPONENTS or kind not in SHAPES:
            raise self.damaged(f"{what} has component type {component} and type {kind}, which glTF does not know")
        dtype = np.dtype(COMPONENTS[component]).newbyteorder("<")
        rows, columns = SHAPES[kind]
        # Columns of a matrix start at multiples of four bytes.
        column = -(-rows * dtype.itemsize // 4) * 4 if columns > 1 else rows * dtype.itemsize
        size = column * columns
        data, stride = self.view(view)
        stride = stride or size
        if stride < size or (count and offset + stride * (count - 1) + size > len(data)):
            raise self.damaged(f"{what} reaches beyond its buffer view")
        shape, strides = (count, columns, rows), (stride, column, dtype.itemsize)
        if not count:
            return np.zeros((0, columns * rows), dtype)
        return np.ndarray(shape, dtype, data, offset, strides).reshape(count, columns * rows)

    def accessor(self, index: int, raw: bool = False) -> np.ndarray:
        """Values of an accessor.

        Parameters
        ----------
        index : int
        raw : bool
            Keep integers as they are (indices, joints); otherwise normalised integers become floats in [0, 1] or
            [-1, 1] (glTF 2.0, 3.11) and others plain floats.

        Returns
        -------
        ndarray, shape (count,) for scalars, (count, D) for vectors, (count, n, n) for matrices (row, column)
        """
        entry, what = self.item("accessors", index), f"accessors[{index}]"
        count, component, kind = self.integer(entry, "count", what), entry["componentType"], entry["type"]
        if component not in COMPONENTS or kind not in SHAPES:
            raise self.damaged(f"{what} has component type {component} and type {kind}, which glTF does not know")
        width = SHAPES[kind][0] * SHAPES[kind][1]
        self.spend(8 * count * width, what)
        if "bufferView" in entry:
            offset = self.integer(entry, "byteOffset", what, 0)
            values = self._read(entry["bufferView"], offset, count, component, kind, what)
        else:
            values = np.zeros((count, width), COMPONENTS[component])
        if "sparse" in entry:
            values = self._sparse(entry["sparse"], values, component, kind, f"{what}.sparse")
        if not raw:
            values = to_float(values, entry.get("normalized", False))
        rows, columns = SHAPES[kind]
        if columns > 1:
            return values.reshape(count, columns, rows).transpose(0, 2, 1)
        return values[:, 0] if rows == 1 else values

    def _sparse(self, sparse: dict, values: np.ndarray, component: int, kind: str, what: str) -> np.ndarray:
        """``values`` with some elements replaced (glTF 2.0, 3.6.2.3)."""
        count, where, new = self.integer(sparse, "count", what), sparse["indices"], sparse["values"]
        if where["componentType"] not in (5121, 5123, 5125):
            raise self.damaged(f"{what}.indices are no unsigned integers")
        at = self._read(where["bufferView"], self.integer(where, "byteOffset", what, 0), count, where["componentType"],
                        "SCALAR", f"{what}.indices")[:, 0]
        if len(at) and at.max() >= len(values):
            raise self.damaged(f"{what} names element {at.max()} of {len(values)}")
        values = values.copy()
        values[at] = self._read(new["bufferView"], self.integer(new, "byteOffset", what, 0), count, component, kind,
                                f"{what}.values")
        return values

    def image(self, index: int) -> np.ndarray:
        """An image as sRGB uint8, shape (h, w, 4)."""
        from PIL import Image

        entry, what = self.item("images", index), f"images[{index}]"
        content = (self.view(entry["bufferView"])[0].tobytes() if "bufferView" in entry
                   else self._uri(entry["uri"], what))
        try:
            # Formats are named, as some of the others that Pillow knows start programs.
            with Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "WEBP")) as image:
                self.spend(image.width * image.height, what, "texels")
                if self.max_texture and max(image.size) > self.max_texture:
                    image.thumbnail((self.max_texture, self.max_texture), Image.Resampling.BOX)
                return np.asarray(image.convert("RGBA"))
        except RigError:
            raise
        except Exception as error:          # decoders fail in many ways: OSError, SyntaxError, struct.error, ...
            raise self.damaged(f"{what} is no picture that can be read ({error})") from error


def damaged(path: Path, what: str) -> RigError:
    """The error of a file that contradicts itself."""
    return RigError(f"{path} is damaged: {what}; get or export it again (the Khronos glTF validator tells more)")


def to_float(values: np.ndarray, normalized: bool) -> np.ndarray:
    """Stored numbers as 64-bit floats; normalised integers as [0, 1] or [-1, 1] (glTF 2.0, 3.11)."""
    if values.dtype.kind == "f" or not normalized:
        return values.astype(np.float64)
    out = values.astype(np.float64) / np.iinfo(values.dtype).max
    return np.maximum(out, -1)


def unique(names) -> tuple[str, ...]:
    """Append _1, _2, ... to names that were taken before."""
    taken: dict[str, int] = {}
    out = []
    for name in names:
        candidate = name
        while candidate in taken:
            taken[name] += 1
            candidate = f"{name}_{taken[name]}"
        taken[candidate] = 0
        out.append(candidate)
    return tuple(out)
