"""The hosts of a run, machines or processes: which of them this one is, and what they tell each other."""

from __future__ import annotations

import json
import math
import socket
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifold import names
from classifold.errors import ClassifoldError, Fault, HostError


class Hosts:
    """The hosts that train one model together; here the only one.

    Each has a share of the pictures and the whole of the weights. The first alone writes anything.

    Attributes:
        rank: This host's index among them, from 0.
        count: How many there are.
        num_devices: Number of devices of all hosts together; each host has as many.
    """

    rank, count, num_devices = 0, 1, 1

    @property
    def is_first(self) -> bool:
        """Whether this is the host that writes the model."""
        return self.rank == 0

    def count_rows(self, batch_size: int) -> int:
        """Return how many rows of a batch are this host's.

        All hosts have as many; those beyond the size of the batch, on the last hosts, stay empty.
        """
        return math.ceil(batch_size / self.num_devices) * (self.num_devices // self.count)

    def gather(self, array: NDArray[Any]) -> list[NDArray[Any]]:
        """Return every host's array, of one shape and type everywhere, in the order of the hosts."""
        return [array]

    def gather_bytes(self, data: bytes) -> list[bytes]:
        """Return every host's bytes, in the order of the hosts."""
        return [data]

    def sum(self, array: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of every host's array, to the last bit the same on each of them."""
        arrays = self.gather(array)
        return arrays[0] if len(arrays) == 1 else np.sum(arrays, axis=0)

    def agree(self, flag: bool) -> bool:
        """Tell whether it is so on every host."""
        return all(bool(one[0]) for one in self.gather(np.array([flag])))

    def order_rows(self, numbers: NDArray[np.intp], rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the rows (N, K) of every host's pictures, in the order of the pictures' numbers."""
        if self.count == 1:
            return rows
        table = np.column_stack([numbers.astype(np.float64), rows])
        every = [np.frombuffer(one).reshape(-1, table.shape[1]) for one in self.gather_bytes(table.tobytes())]
        whole = np.concatenate(every)
        return np.asarray(whole[np.argsort(whole[:, 0], kind="stable"), 1:])


@dataclass(frozen=True)
class HostInfo:
    """One host among those that train together.

    Attributes:
        rank: From 0; the first host writes the model.
        count: How many hosts there are.
        address: `HOST:PORT` of the first one, where they find each other.
        names: Names of the hosts, in their order, for messages.
    """

    rank: int
    count: int
    address: str
    names: tuple[str, ...] = ()


class JaxHosts(Hosts):
    """Several hosts, or one with several devices, on JAX's own collectives."""

    def __init__(self, rank: int, count: int, num_devices: int) -> None:
        self.rank, self.count, self.num_devices = rank, count, num_devices

    def gather(self, array: NDArray[Any]) -> list[NDArray[Any]]:
        """Return every host's array; as bytes on the way, since JAX would round double precision."""
        if self.count == 1:
            return [array]
        from jax.experimental.multihost_utils import process_allgather

        raw = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        every = np.asarray(process_allgather(raw))
        return [np.frombuffer(one.tobytes(), array.dtype).reshape(array.shape) for one in every]

    def gather_bytes(self, data: bytes) -> list[bytes]:
        """Return every host's bytes."""
        sizes = [int(one[0]) for one in self.gather(np.array([len(data)]))]
        padded = np.frombuffer(data.ljust(max(sizes), b"\0"), np.uint8)
        every = self.gather(padded) if max(sizes) else [padded] * self.count
        return [one.tobytes()[:size] for one, size in zip(every, sizes, strict=True)]


# How long hosts wait for each other at the start: the last machine of a job can come minutes later.
_MEETING_SECONDS = 600
# A host that has not been heard of for so long has ended, and the others end with it.
_SILENT_SECONDS = 30
_LEAVING_SECONDS = 60


def join_hosts(this_host: HostInfo) -> None:
    """Meet the other hosts of a run; call it before JAX looks for its devices.

    Raises:
        HostError: If they do not meet in time.
    """
    import jax

    if jax.distributed.is_initialized():
        return
    _wait_for_name(this_host.address.rpartition(":")[0])
    meeting: Future[None] = Future()
    # In a thread, since a signal is not answered while C++ waits; one that nobody waits for after a signal.
    threading.Thread(target=_meet, args=(this_host, meeting), daemon=True).start()
    while not meeting.done():
        time.sleep(0.05)
    try:
        meeting.result()
    except RuntimeError as error:
        hint = "the logs of the others say why; all must be able to reach the first one"
        what = f"the {this_host.count} hosts did not meet at {this_host.address}: {_first_line(error)}"
        raise HostError(Fault("hosts", what, hint=hint)) from error


def _meet(this_host: HostInfo, meeting: Future[None]) -> None:
    import jax

    host, _, port = this_host.address.rpartition(":")
    is_local = host == names.LOOPBACK
    try:
        jax.distributed.initialize(
            this_host.address,
            num_processes=this_host.count,
            process_id=this_host.rank,
            # On one machine nobody else is listened to; JAX's default is every network.
            coordinator_bind_address=f"{names.LOOPBACK}:{port}" if is_local else None,
            # What is left out is not looked for at the providers of clouds and clusters.
            cluster_detection_method="deactivate",
            initialization_timeout=_MEETING_SECONDS,
            heartbeat_timeout_seconds=_SILENT_SECONDS,
            shutdown_timeout_seconds=_LEAVING_SECONDS,
        )
        if is_local:
            _exchange_on_loopback()
    except Exception as error:
        meeting.set_exception(error)
    else:
        meeting.set_result(None)


def _exchange_on_loopback() -> None:
    """Let the hosts of one machine exchange arrays through its loopback interface alone.

    Otherwise each listens on the address of the machine's own name, which others may reach.
    """
    import functools

    from jax._src import distributed, xla_bridge
    from jax._src.lib import _jax
    from jax.extend.backend import register_backend_factory

    exchange = _jax.make_gloo_tcp_collectives(distributed.global_state.client, hostname=names.LOOPBACK)
    factory = functools.partial(xla_bridge.make_cpu_client, collectives=exchange)
    register_backend_factory("cpu", factory, priority=0, fail_quietly=False)


def _wait_for_name(name: str) -> None:
    """Wait until a host's name is known: on a new network that can be after the first process starts."""
    end = time.monotonic() + _MEETING_SECONDS
    while True:
        try:
            socket.getaddrinfo(name, None)
        except OSError as error:
            if time.monotonic() > end:
                hint = "are all hosts on one network, and did the first one start?"
                raise HostError(
                    Fault("hosts", f"the name {name} is not known: {error}", hint=hint)
                ) from error
            time.sleep(1)
        else:
            return


def share_devices(this_host: HostInfo | None) -> Hosts:
    """Let Keras train on all devices of all hosts, each with a part of every batch; return the hosts.

    Call it after Keras was started on JAX and before anything is built.
    """
    import keras

    if keras.backend.backend() != "jax":
        return Hosts()
    count, devices = (1 if this_host is None else this_host.count), keras.distribution.list_devices()
    if len(devices) == 1:
        return Hosts()
    parallel = keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
    keras.distribution.set_distribution(parallel)
    return JaxHosts(0 if this_host is None else this_host.rank, count, len(devices))


def check_alike(hosts: Hosts, this_host: HostInfo, facts: Mapping[str, Any]) -> None:
    """Refuse hosts that were given different settings, pictures or versions.

    Raises:
        HostError: On all of them, with what differs.
    """
    if hosts.count == 1:
        return
    every = [json.loads(one) for one in hosts.gather_bytes(json.dumps(facts).encode())]
    faults = []
    for rank, other in enumerate(every):
        different = sorted(name for name, value in every[0].items() if other.get(name) != value)
        if different:
            name = this_host.names[rank] if this_host.names else f"number {rank + 1}"
            hint = "give all hosts the same settings, the same pictures and the same version"
            what = f"it differs from the first host in its {' and '.join(different)}"
            faults.append(Fault(f"host {name}", what, hint=hint))
    if faults:
        raise HostError(*faults)


def leave_hosts(hosts: Hosts) -> None:
    """Part from the other hosts: what follows is done alone."""
    if hosts.count > 1:
        import jax

        jax.distributed.shutdown()


def be_alone(model: Any) -> Any:
    """Return the model for this host alone, with the weights that all of them have."""
    import keras

    if keras.backend.backend() != "jax" or keras.distribution.distribution() is None:
        return model
    weights = model.get_weights()
    keras.distribution.set_distribution(None)
    alone = type(model).from_config(model.get_config())
    alone.set_weights(weights)
    return alone


# What JAX and what carries its messages say when another host is gone.
_GONE = ("gloo", "connection closed", "coordination", "heartbeat", "unavailable", "deadline_exceeded", "nccl")


def explain_loss(error: BaseException, this_host: HostInfo) -> HostError | None:
    """Return the error of a run that lost another host; None where an exception means something else."""
    text = f"{type(error).__name__} {error}".lower()
    if isinstance(error, ClassifoldError) or not any(word in text for word in _GONE):
        return None
    return HostError(lost_host(this_host))


def lost_host(this_host: HostInfo) -> Fault:
    """Return what to say on a host whose others are gone."""
    others = [name for rank, name in enumerate(this_host.names) if rank != this_host.rank]
    who = f"one of the other hosts ({', '.join(others)})" if others else "one of the other hosts"
    hint = "the log of that host says why; start again, and the run resumes from its checkpoint"
    return Fault("hosts", f"{who} ended, so that this one cannot continue", hint=hint)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
