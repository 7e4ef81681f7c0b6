"""Building on a cluster: one that Ray starts on this machine."""

import os
from pathlib import Path

import pytest
from clips_folders import contents, folder_config, write_rigs
from farm_jobs import raises, square

from sp4dlib.clips import build_set
from sp4dlib.clips.farm import Failure, run

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """Two CPUs of this machine, for all tests."""
    ray = pytest.importorskip("ray")
    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_raylet_start_wait_time_s", "120")           # a busy machine takes long to start it
    patch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'tests'}")     # of the workers
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()
    patch.undo()


def test_the_same_bytes(tmp_path):
    write_rigs(tmp_path / "rigs", 4)
    (tmp_path / "rigs" / "pack0" / "damaged.glb").write_bytes(b"glTF")
    config = folder_config(tmp_path / "rigs")
    manifest = build_set(config, tmp_path / "ray", ray="local", progress=False)
    assert manifest["summary"]["objects_dropped"] == {"unreadable": 1}
    build_set(config, tmp_path / "here", progress=False)
    assert contents(tmp_path / "ray") == contents(tmp_path / "here")


def test_a_crash_and_a_hang_cost_one_job_each():
    found = dict(run(square, list(range(7)), ray="local", limit=2.0))
    assert {n: found[n] for n in (0, 1, 2, 4, 6)} == {0: 0, 1: 1, 2: 4, 4: 16, 6: 36}
    assert isinstance(found[3], Failure) and found[3].reason == "crashed"
    assert isinstance(found[5], Failure) and found[5].reason == "out of time"


def test_what_a_job_raises_is_raised():
    with pytest.raises(ZeroDivisionError, match="job 0"):
        list(run(raises, [0], ray="local"))
