"""Window plans: what must hold, for every length and size."""

import pytest

from sp4dlib.diffusion.windows import Window, plan_windows

SIZES = (1, 2, 3, 4, 5, 8, 12, 21, 200, 201)


@pytest.mark.parametrize("size", SIZES)
def test_plans_of_all_lengths(size):
    for length in range(1, 201):
        plan = plan_windows(length, size)
        given = [frame for window in plan for frame in window.frames]
        assert given == list(range(length)), "every frame once, in order"
        done = 0
        for window in plan:
            assert len(window.frames) >= 1, "no window lies wholly inside frames already made"
            assert window.frames.start == done, "the earlier window gives a shared frame"
            assert window.made == done - window.start and 0 <= window.start, "the shared frames come first"
            assert window.stop == min(window.start + size, length), "all else of a window is used"
            done = window.stop
        shared = [window.made for window in plan]
        assert shared[0] == 0
        assert shared[1:-1] == [min(1, size - 1)] * len(shared[1:-1]), "neighbours share one frame"
        if len(plan) > 1:
            last = plan[-1]
            assert last.start + size == length, "the last is shifted back, not filled up"
            assert min(1, size - 1) <= last.made < size
        else:
            assert length <= size


@pytest.mark.parametrize("size", SIZES)
def test_no_plan_has_fewer_windows(size):
    """n windows that share a frame make at most ``size + (n - 1) (size - 1)`` frames."""
    step = max(1, size - 1)
    for length in range(1, 201):
        assert len(plan_windows(length, size)) == 1 + max(0, -(-(length - size) // step))


def test_a_plan_by_hand():
    """21 frames in windows of 12, as the release of SV4D 2.0 makes them: frames 0-11 and 9-20."""
    assert plan_windows(21, 12) == [Window(0, 0, 12), Window(9, 3, 21)]
    assert plan_windows(10, 4) == [Window(0, 0, 4), Window(3, 1, 7), Window(6, 1, 10)]
    assert plan_windows(3, 4) == [Window(0, 0, 3)]
    assert plan_windows(3, 1) == [Window(0, 0, 1), Window(1, 0, 2), Window(2, 0, 3)]


@pytest.mark.parametrize("length, size", [(0, 4), (4, 0), (-1, 4)])
def test_nothing_to_plan(length, size):
    with pytest.raises(ValueError, match="at least one frame"):
        plan_windows(length, size)
