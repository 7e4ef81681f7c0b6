"""Meshes under Draco compression (KHR_draco_mesh_compression), decoded in a process of their own.

The decoder is native code, and a file may come from anywhere. A child process that reads the streams of one file, under
limits of memory and time, and writes plain arrays costs a fifth of a second; what ends badly there ends as one error
here. The child runs this file as a script: it imports numpy and DracoPy and nothing of this package.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MEMORY = 2**30          # bytes that a child may take beyond what its imports need
SECONDS = 60            # of processor time for all streams of a file
TRIANGLES = b"\x01"     # the byte behind `DRACO` and the version: 0 is a cloud of points
MISSING = 3             # exit code: DracoPy is not installed


class DracoError(Exception):
    """What kept a stream, or all of them, from being decoded."""


@dataclass(frozen=True)
class DracoMesh:
    """One decoded stream.

    Attributes
    ----------
    faces : ndarray of int64, shape (F, 3)
    attributes : dict of int to ndarray, shape (N, D)
        As stored, by the unique id that the glTF extension refers to.
    """

    faces: np.ndarray
    attributes: dict[int, np.ndarray]


def decode(streams: Sequence[bytes], memory: int = MEMORY, seconds: int = SECONDS) -> list[DracoMesh | DracoError]:
    """Decode Draco streams in a child process.

    Parameters
    ----------
    streams : sequence of bytes
    memory : int
        Bytes that the child may take beyond its imports (enforced on Linux).
    seconds : int
        Processor time of the child (enforced where the system can); four times as much of the clock.

    Returns
    -------
    list of DracoMesh, or of DracoError where a stream is damaged or too large

    Raises
    ------
    DracoError
        If the child came to no end: DracoPy is missing, it crashed, or it took too long.
    """
    sizes = np.array([len(streams), *map(len, streams)], "<u8")
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}           # each thread would reserve memory
    # With this process's path, and not this folder in front of it, as running a script would have it.
    code = f"import sys, runpy; sys.path[:] = {sys.path!r}; runpy.run_path({__file__!r}, run_name='__main__')"
    command = [sys.executable, "-c", code, str(memory), str(seconds)]
    try:
        done = subprocess.run(command, input=b"".join([sizes.tobytes(), *streams]), capture_output=True,
                              timeout=4 * seconds, env=environment)
    except subprocess.TimeoutExpired as error:
        raise DracoError(f"decoding took more than {4 * seconds} seconds") from error
    except OSError as error:
        raise DracoError(f"the decoder did not start ({error})") from error
    if done.returncode == MISSING:
        raise DracoError("the package DracoPy is not installed (pip install DracoPy)")
    if done.returncode:
        last = done.stderr[-200:].decode(errors="replace")
        raise DracoError(f"the decoder ended with code {done.returncode} ({last})")
    with np.load(io.BytesIO(done.stdout), allow_pickle=False) as arrays:
        return [_result(arrays, i) for i in range(len(streams))]


def _result(arrays, i: int) -> DracoMesh | DracoError:
    if f"{i} error" in arrays:
        return DracoError(str(arrays[f"{i} error"]))
    named = [name for name in arrays.files if name.startswith(f"{i} attribute ")]
    return DracoMesh(arrays[f"{i} faces"], {int(name.split()[-1]): arrays[name] for name in named})


def _limit(memory: int, seconds: int) -> None:
    """Bound what this process may take from now on, as far as the system allows."""
    try:
        import resource
    except ImportError:             # Windows: the caller's clock is all there is
        return
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":     # macOS knows the limit and does not keep it
        with open("/proc/self/statm") as file:
            taken = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + memory, taken + memory))


def _child(memory: int, seconds: int) -> int:
    """Read streams from standard input, write an .npz archive to standard output."""
    try:
        import DracoPy
    except ImportError:
        return MISSING
    _limit(memory, seconds)
    content = sys.stdin.buffer.read()
    count = int(np.frombuffer(content, "<u8", 1)[0])
    ends = 8 * (1 + count) + np.cumsum(np.frombuffer(content, "<u8", 1 + count)[1:]).astype(int)
    arrays: dict[str, np.ndarray] = {}
    for i, (start, end) in enumerate(zip([8 * (1 + count), *ends], ends)):
        stream = content[start:end]
        try:
            if stream[:5] != b"DRACO" or stream[7:8] != TRIANGLES:
                raise ValueError("it holds no Draco mesh")
            mesh = DracoPy.decode(stream)
            arrays[f"{i} faces"] = np.asarray(mesh.faces, np.int64).reshape(-1, 3)
            for attribute in mesh.attributes:
                arrays[f"{i} attribute {attribute['unique_id']}"] = np.asarray(attribute["data"])
        except MemoryError:
            arrays[f"{i} error"] = np.array("it would take more memory than a mesh may")
        except Exception as error:      # DracoPy's own types, and whatever its arrays make of nonsense
            arrays[f"{i} error"] = np.array(f"{type(error).__name__}: {error}")
    np.savez(sys.stdout.buffer, **arrays)
    return 0


if __name__ == "__main__":
    sys.exit(_child(int(sys.argv[1]), int(sys.argv[2])))
