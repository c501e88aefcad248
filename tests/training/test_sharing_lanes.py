"""The order of an epoch: every picture once, in the same batches however many hosts share it out."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from classifold.training.hosts import Hosts
from classifold.training.sharing import deal_pictures, draw_batches, is_of_rows


class Some(Hosts):
    """One of several hosts, as far as the sharing out goes."""

    def __init__(self, rank: int, count: int) -> None:
        self.rank, self.count, self.num_devices = rank, count, count


def draw(numbers, batch_size, host, *, num_steps=None, seed=(1, 0, 0)):
    """Return the numbers of the pictures in the batches of a host, -1 where there is none."""
    num_rows = host.count_rows(batch_size)
    first = host.rank * num_rows
    mine = is_of_rows(numbers, batch_size, first=first, num_rows=num_rows)
    lanes = deal_pictures(numbers[mine], batch_size, first=first, num_rows=num_rows)
    steps = num_steps or math.ceil((numbers.max() + 1) / batch_size)
    places = draw_batches(lanes, steps, seed=seed, first=first, is_repeated=num_steps is not None)
    return np.where(places >= 0, np.append(numbers[mine], -1)[places], -1)


some = st.lists(st.integers(0, 200), min_size=1, unique=True).map(lambda one: np.sort(np.array(one)))


@settings(max_examples=80, deadline=None)
@given(numbers=some, batch_size=st.integers(1, 40), count=st.integers(1, 5), seed=st.integers(0, 2**31))
def test_several_hosts_have_the_batches_of_one_and_every_picture_once(numbers, batch_size, count, seed):
    one = draw(numbers, batch_size, Some(0, 1), seed=(seed, 0, 1))
    several = [draw(numbers, batch_size, Some(rank, count), seed=(seed, 0, 1)) for rank in range(count)]
    together = np.concatenate(several, axis=1)
    assert (together[:, :batch_size] == one).all()
    assert (together[:, batch_size:] == -1).all()
    assert sorted(together[together >= 0].tolist()) == numbers.tolist()


@settings(max_examples=60, deadline=None)
@given(numbers=some, batch_size=st.integers(1, 40), num_steps=st.integers(1, 30), seed=st.integers(0, 2**31))
def test_no_picture_of_a_row_comes_again_before_the_others_came(numbers, batch_size, num_steps, seed):
    drawn = draw(numbers, batch_size, Some(0, 1), num_steps=num_steps, seed=(seed, 0, 1))
    assert drawn.shape == (num_steps, batch_size)
    for row, lane in enumerate(drawn.T):
        members = numbers[numbers % batch_size == row]
        assert set(lane.tolist()) <= set(members.tolist() or [-1])
        for start in range(0, num_steps, max(1, len(members))) if len(members) else ():
            part = lane[start : start + len(members)]
            assert len(set(part.tolist())) == len(part)


def test_every_epoch_and_stage_has_an_order_of_its_own():
    seeds = [(seed, stage, epoch) for seed in (1, 2) for stage in (0, 1) for epoch in (0, 1)]
    assert len({draw(np.arange(30), 4, Some(0, 1), seed=seed).tobytes() for seed in seeds}) == 8


def test_a_batch_that_devices_cannot_share_evenly_has_empty_rows_at_its_end():
    assert [Some(0, count).count_rows(32) for count in (1, 2, 3, 5)] == [32, 16, 11, 7]
