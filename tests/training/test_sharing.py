"""Hosts that each have a part of the training pictures: all are trained on once an epoch, and none twice."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifold.dataset.scan import Sets
from classifold.dataset.walk import Picture
from classifold.errors import DataError, HostError
from classifold.settings.loader import build_config
from classifold.training.hosts import Hosts
from classifold.training.sharing import (
    BY_NUMBER,
    check_share,
    check_spread,
    choose_mine,
    deal_own,
    draw_batches,
    has_own,
)


class Together(Hosts):
    """One of several hosts that are threads of this process."""

    def __init__(self, rank: int, count: int, meeting: threading.Barrier, table: dict) -> None:
        self.rank, self.count, self.num_devices = rank, count, count
        self._meeting, self._table = meeting, table

    def gather(self, array):
        self._table[self.rank] = array
        self._meeting.wait(10)
        every = [self._table[rank] for rank in range(self.count)]
        self._meeting.wait(10)
        return every

    def gather_bytes(self, data):
        return self.gather(data)


def ask_all(sets: list[Sets]) -> list[str]:
    """Return what `check_spread` answers, or refuses, on every host."""
    meeting, table, answers = threading.Barrier(len(sets)), {}, {}

    def ask(rank: int) -> None:
        try:
            answers[rank] = check_spread(sets[rank], Together(rank, len(sets), meeting, table))
        except HostError as error:
            answers[rank] = str(error)

    threads = [threading.Thread(target=ask, args=(rank,)) for rank in range(len(sets))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [answers[rank] for rank in range(len(sets))]


def make_sets(count: int, here: list[int] | None = None) -> Sets:
    pictures = [Picture(Path(f"{number}.png"), "red", f"red/{number}.png") for number in range(count)]
    every = {"training": pictures, "validation": pictures[:2], "evaluation": pictures[:2]}
    return Sets(("blue", "red"), every, "f", present={} if here is None else {"training": here})


owners = st.lists(st.integers(0, 3), min_size=4, max_size=120)


@settings(max_examples=80, deadline=None)
@given(owners=owners, batch_size=st.integers(4, 40), seed=st.integers(0, 2**31))
def test_every_picture_of_every_host_comes_once_an_epoch(owners, batch_size, seed):
    config, taken = build_config({"BATCH_SIZE": batch_size}), []
    for rank in range(4):
        hosts = Hosts()
        hosts.rank, hosts.count, hosts.num_devices = rank, 4, 4
        here = [number for number, owner in enumerate(owners) if owner == rank]
        sets = make_sets(len(owners), here)
        mine = choose_mine(np.arange(len(owners)), sets, config, hosts)
        assert mine.tolist() == here
        num_rows = hosts.count_rows(batch_size)
        lanes = deal_own(len(mine), num_rows=num_rows)
        assert max(map(len, lanes)) - min(map(len, lanes)) <= 1
        drawn = draw_batches(lanes, max(map(len, lanes)), seed=(seed, 0, 0), first=rank * num_rows)
        taken += mine[drawn[drawn >= 0]].tolist()
    assert sorted(taken) == list(range(len(owners)))


def test_of_some_of_the_pictures_a_host_has_those_that_came_to_it():
    hosts = Hosts()
    sets = make_sets(10, [1, 4, 5, 9])
    # Pictures 0, 4, 5 and 8 of the set are trained on, and have the numbers from 0 to 3.
    mine = choose_mine(np.array([0, 4, 5, 8]), sets, build_config({}), hosts)
    assert mine.tolist() == [1, 2]


def test_hosts_that_all_have_every_picture_share_them_out_by_number():
    assert ask_all([make_sets(9)] * 3) == [BY_NUMBER] * 3
    assert not has_own(make_sets(9))
    assert has_own(make_sets(9, [1]))


def test_who_has_which_pictures_has_a_name_that_all_hosts_know():
    one = ask_all([make_sets(9, [0, 1, 2, 5]), make_sets(9, [3, 4, 6, 7, 8])])
    other = ask_all([make_sets(9, [3, 4, 6, 7, 8]), make_sets(9, [0, 1, 2, 5])])
    assert len(set(one)) == len(set(other)) == 1
    assert one != other


def test_pictures_on_no_host_and_on_several_are_refused_on_all():
    said = ask_all([make_sets(9, [0, 1, 2]), make_sets(9, [2, 3, 4, 5, 6])])
    assert said[0] == said[1]
    assert "2 of the 9 training pictures are on none of the hosts, such as red/7.png" in said[0]
    assert "1 of the 9 training pictures are on several hosts, such as red/2.png" in said[0]
    assert "--delete-stale" in said[0]


def test_a_host_that_has_all_among_hosts_that_have_parts_is_found():
    said = ask_all([make_sets(4, [0, 1]), make_sets(4)])
    assert "2 of the 4 training pictures are on several hosts" in said[0]
    assert said[0] == said[1]


def test_a_host_without_a_picture_is_told_what_to_do():
    with pytest.raises(DataError, match="INPUT_DISTRIBUTION = 'FullyReplicated'"):
        check_share([], "training", sets=make_sets(4, []), hosts=Hosts())
    with pytest.raises(DataError, match="set BATCH_SIZE to 2 or less"):
        check_share([], "training", sets=make_sets(4), hosts=Hosts())
    check_share([0], "training", sets=make_sets(4), hosts=Hosts())
