"""Many jobs in several processes: what goes wrong in one is the matter of that one."""

import pytest
from farm_jobs import raises, square

from sp4dlib.clips.farm import Failure, run


def test_a_crash_and_a_hang_cost_one_job_each():
    found = dict(run(square, list(range(8)), workers=2, limit=1.0))
    assert {n: found[n] for n in (0, 1, 2, 4, 6, 7)} == {0: 0, 1: 1, 2: 4, 4: 16, 6: 36, 7: 49}
    assert isinstance(found[3], Failure) and found[3].reason == "crashed"
    assert isinstance(found[5], Failure) and found[5].reason == "out of time"


def test_no_process_but_this():
    assert list(run(square, [0, 1, 2])) == [(0, 0), (1, 1), (2, 4)]
    ((_, result),) = run(square, [5], limit=0.2)
    assert isinstance(result, Failure) and result.reason == "out of time" and "0.2 s" in result.detail


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_job_raises_is_raised(workers):
    with pytest.raises(ZeroDivisionError, match="job 0"):
        list(run(raises, [0], workers=workers))


def test_a_number_of_workers_that_makes_no_sense():
    with pytest.raises(ValueError, match="number of processes"):
        list(run(square, [0], workers=-1))
