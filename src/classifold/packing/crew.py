"""Who packs the shards of a plan: threads of this process, or several processes that Dask keeps."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from pathlib import Path
from typing import Any

from classifold.errors import DataError, Fault, MissingExtraError
from classifold.machine import count_cores
from classifold.packing.job import Outcome, PackOrder, pack_shard
from classifold.packing.plan import PackJob
from classifold.processes import isolated_children

# Shards that wait for each worker: Dask knows of no more, so that its memory stays flat.
_WAITING = 2


class _StoppedError(Exception):
    """Another shard failed, or the user stopped the run."""


def pack_in_threads(
    jobs: Iterable[PackJob], order: PackOrder, *, advance: Callable[[int], None]
) -> Generator[Outcome]:
    """Pack the shards in threads of this process, one per core; yields their outcomes in no order.

    Args:
        jobs: The shards.
        order: What is the same for all shards.
        advance: Called with the number of pictures packed since its last call, by any thread.
    """
    stop = threading.Event()

    def step() -> None:
        if stop.is_set():
            raise _StoppedError
        advance(1)

    threads = ThreadPoolExecutor(count_cores(), thread_name_prefix="packing")
    try:
        for future in as_completed([threads.submit(pack_shard, job, order, step=step) for job in jobs]):
            yield future.result()
    finally:
        stop.set()
        threads.shutdown(cancel_futures=True)


def pack_on_dask(
    jobs: Iterable[PackJob],
    order: PackOrder,
    *,
    num_workers: int,
    scratch: Path,
    advance: Callable[[int], None],
) -> Generator[Outcome]:
    """Pack the shards in processes of their own; yields their outcomes in no order.

    A process that dies is replaced, and its shard is retried.

    Args:
        jobs: The shards.
        order: What is the same for all shards.
        num_workers: Number of processes.
        scratch: Folder for Dask's own files.
        advance: Called with the number of pictures of each shard that is packed.

    Raises:
        MissingExtraError: Dask is not installed.
        DataError: The workers died with one shard again and again.
    """
    dask = _import_dask()
    waiting = iter(jobs)
    options: dict[str, Any] = {"n_workers": num_workers, "threads_per_worker": 1, "processes": True}
    # Any free port of this machine alone. Without one Dask takes 8787, and warns where that is taken.
    quiet = {"dashboard_address": "127.0.0.1:0", "local_directory": str(scratch), "silence_logs": "CRITICAL"}
    with (
        isolated_children(),  # all the time: Dask replaces workers that died
        dask.LocalCluster(**options, **quiet) as cluster,
        dask.Client(cluster) as client,
    ):
        submit = functools.partial(client.submit, pack_shard, order=order, pure=False, retries=0)
        running = dask.as_completed([submit(job) for job in islice(waiting, _WAITING * num_workers)])
        for future in running:
            try:
                outcome = future.result()
            except dask.KilledWorker as error:
                what = "the workers that packed a shard died again and again, perhaps for lack of memory"
                hint = "take fewer --workers or a smaller SHARD_MB; the shards that are whole are kept"
                raise DataError(Fault("classifold shards", what, hint=hint)) from error
            advance(outcome.job.num_pictures)
            yield outcome
            for job in islice(waiting, 1):
                running.add(submit(job))


def _import_dask() -> Any:
    try:
        import distributed
    except ImportError as error:
        what = "packing with several processes needs Dask, which is not installed"
        hint = "pip install distributed, or leave --workers out"
        raise MissingExtraError(Fault("classifold shards", what, hint=hint)) from error
    return distributed
