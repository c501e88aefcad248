"""What hosts tell each other, with hosts that are threads: sums, orders, faults, and names known late."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifold.errors import DataError, Fault, HostError
from classifold.training.hosts import HostInfo, Hosts, check_alike, explain_loss, join_hosts
from classifold.training.journal import Notes
from classifold.training.scaling import measure_scaling
from classifold.training.sharing import sharing_faults


class Meeting:
    """Where hosts that are threads lay down what they have."""

    def __init__(self, count: int) -> None:
        self.barrier = threading.Barrier(count, timeout=20)
        self.table: list[Any] = [None] * count


class ThreadHosts(Hosts):
    """One of several hosts, each a thread of this process."""

    def __init__(self, rank: int, meeting: Meeting) -> None:
        self.rank, self.meeting = rank, meeting
        self.count = self.num_devices = meeting.barrier.parties

    def gather(self, array: Any) -> list[Any]:
        return list(self.gather_bytes(array))

    def gather_bytes(self, data: Any) -> list[Any]:
        self.meeting.table[self.rank] = data
        self.meeting.barrier.wait()
        every = list(self.meeting.table)
        self.meeting.barrier.wait()
        return every


def on_hosts(count: int, work: Callable[[Hosts], Any]) -> list[Any]:
    """Return what each host's work returned or raised."""

    def do(hosts: Hosts) -> Any:
        try:
            return work(hosts)
        except (DataError, HostError) as error:
            return error

    meeting = Meeting(count)
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(do, [ThreadHosts(rank, meeting) for rank in range(count)]))


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 4), num=st.integers(4, 40), seed=st.integers(0, 2**31))
def test_rows_of_all_hosts_come_in_the_order_of_their_numbers(count, num, seed):
    rows = np.random.default_rng(seed).normal(size=(num, 2))
    numbers = np.random.default_rng(seed).permutation(num)

    def order(hosts: Hosts) -> Any:
        mine = np.sort(numbers[hosts.rank :: hosts.count])
        return hosts.order_rows(mine, rows[mine])

    for found in on_hosts(count, order):
        np.testing.assert_array_equal(found, rows)


@pytest.mark.parametrize("count", [2, 3])
def test_a_scaling_is_measured_over_all_hosts(count):
    features = np.random.default_rng(0).normal(3, 2, size=(5001, 7)).astype(np.float32)
    alone = measure_scaling(features)
    for found in on_hosts(count, lambda hosts: measure_scaling(features[hosts.rank :: hosts.count], hosts)):
        np.testing.assert_allclose(found.mean, alone.mean, rtol=1e-6)
        np.testing.assert_allclose(found.spread, alone.spread, rtol=1e-6)
    np.testing.assert_allclose(alone.mean, features.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(alone.spread, features.std(axis=0), rtol=1e-4)


def test_a_head_is_found_over_all_hosts_as_on_one(keras):
    from classifold.training.linear_head import Examples, follow_path

    generator = np.random.default_rng(1)
    features = generator.normal(size=(90, 6)).astype(np.float32)
    targets = np.eye(3, dtype=np.float32)[generator.integers(0, 3, 90)]
    weights = generator.uniform(0.5, 2, 90).astype(np.float32)

    def search(hosts: Hosts) -> Any:
        mine = np.arange(90) % hosts.count == hosts.rank
        examples = Examples(features[mine], targets[mine], weights[mine], hosts, is_exact=True)
        return [found.solution for found in follow_path(examples, [0.1, 0.001])]

    (alone,) = on_hosts(1, search)
    for found in on_hosts(3, search):
        np.testing.assert_allclose(found, alone, atol=1e-7)


def test_a_fault_on_one_host_is_raised_on_all_and_notes_come_to_the_first(capsys):
    def read(hosts: Hosts, *, is_bad: bool) -> Any:
        notes = Notes()
        with sharing_faults(hosts, notes=notes):
            notes.tell(f"seen by {hosts.rank}")
            if is_bad and hosts.rank == 1:
                raise DataError(Fault("training/a.png", "the file holds no picture", hint="remove it"))
        return notes.kept

    errors = on_hosts(3, lambda hosts: read(hosts, is_bad=True))
    assert [str(error) for error in errors] == 3 * [
        "error: training/a.png: the file holds no picture\nhint: remove it"
    ]
    kept = on_hosts(3, lambda hosts: read(hosts, is_bad=False))
    assert kept == [["seen by 0", "seen by 1", "seen by 2"], ["seen by 1"], ["seen by 2"]]
    capsys.readouterr()


def test_hosts_with_other_settings_or_pictures_are_refused_by_name():
    facts = [{"settings": {"EPOCHS": 3}, "data": "x"}, {"settings": {"EPOCHS": 4}, "data": "y"}]

    def check(hosts: Hosts) -> None:
        check_alike(hosts, HostInfo(hosts.rank, 2, "", ("algo-1", "algo-2")), facts[hosts.rank])

    for error in on_hosts(2, check):
        assert "host algo-2: it differs from the first host in its data and settings" in str(error)
    facts[1] = facts[0]
    assert on_hosts(2, check) == [None, None]


def test_a_name_that_is_known_late_is_waited_for(monkeypatch):
    pytest.importorskip("jax")
    tries: list[float] = []

    def look(name: str, *_: Any, **__: Any) -> Any:
        tries.append(time.monotonic())
        if len(tries) < 3:
            raise socket.gaierror(-2, "Name or service not known")
        raise HostError(Fault("hosts", "it was found"))  # what follows would need a second host

    monkeypatch.setattr(socket, "getaddrinfo", look)
    with pytest.raises(HostError, match="it was found"):
        join_hosts(HostInfo(1, 2, "algo-1:23456"))
    assert len(tries) == 3


def test_a_signal_ends_the_wait_for_the_others(monkeypatch):
    pytest.importorskip("jax")
    monkeypatch.setattr("classifold.training.hosts._meet", lambda *_: time.sleep(20))
    since = time.monotonic()
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        join_hosts(HostInfo(1, 2, "127.0.0.1:23456"))
    assert time.monotonic() - since < 10


@pytest.mark.parametrize(
    ("error", "is_loss"),
    [
        (RuntimeError("UNAVAILABLE: The following tasks are unhealthy"), True),
        (ValueError("Gloo all-reduce failed: Connection closed by peer"), True),
        (ValueError("shapes (3,) and (4,) do not match"), False),
        (DataError(Fault("training", "the connection closed")), False),
    ],
)
def test_the_loss_of_another_host_is_told_from_other_errors(error, is_loss):
    told = explain_loss(error, HostInfo(0, 2, "", ("algo-1", "algo-2")))
    assert (told is not None) == is_loss
    if told is not None:
        assert "one of the other hosts (algo-2) ended" in str(told)
