"""Near-duplicates: the many at once are judged as one after the other."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sp4dlib.clips.curate import CELLS, MOMENTS, Kept, Signature, twins


def signatures(seed: int, count: int) -> list[Signature]:
    """Some random ones, each with relatives that differ a little."""
    draw = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        if out and draw.uniform() < 0.6:
            like = out[draw.integers(len(out))]
            places = like.places + draw.uniform(0, 0.006) * np.abs(draw.normal(size=like.places.shape))
            colors = like.colors + draw.uniform(-6, 6)
        else:
            places, colors = np.abs(draw.normal(size=MOMENTS * CELLS**3)), draw.uniform(0, 100, (16, 3))
        out.append(Signature(places / np.linalg.norm(places), colors))
    return out


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(0, 40), block=st.sampled_from([1, 7, 512]))
def test_twins_are_what_one_after_the_other_gives(seed, count, block):
    given_ones, kept, expected = signatures(seed, count), Kept(), []
    for number, each in enumerate(given_ones):
        twin = kept.add(str(number), each)
        expected.append(-1 if twin is None else int(twin))
    assert twins(given_ones, block=block) == expected


def test_the_nearest_of_several_is_named():
    draw = np.random.default_rng(0)
    base = np.abs(draw.normal(size=MOMENTS * CELLS**3))
    noise = draw.normal(size=base.shape)

    def made(amount: float, color: float) -> Signature:
        places = np.abs(base + amount * noise)
        return Signature(places / np.linalg.norm(places), np.full((16, 3), color))

    assert twins([made(0, 0), made(0.3, 0), made(0.01, 0), made(0.29, 0), made(0, 50)]) == [-1, -1, 0, 1, -1]
