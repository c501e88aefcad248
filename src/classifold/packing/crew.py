"""Who packs the shards of a plan: this process alone, or several processes that Dask keeps."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from classifold.errors import DataError, Fault, MissingExtraError
from classifold.packing.job import Outcome, PackOrder, pack_shard
from classifold.packing.plan import PackJob
from classifold.processes import isolated_children

# Shards that wait for each worker: so many and no more are known to Dask, and memory stays flat.
_WAITING = 2


def pack_here(jobs: Iterable[PackJob], order: PackOrder) -> Iterator[Outcome]:
    """Pack one shard after the other in this process."""
    for job in jobs:
        yield pack_shard(job, order)


def pack_on_dask(
    jobs: Iterable[PackJob], order: PackOrder, *, num_workers: int, scratch: Path
) -> Iterator[Outcome]:
    """Pack the shards in processes of their own, in no order; one that dies is replaced, its shard retried.

    Args:
        jobs: The shards.
        order: What is the same for all.
        num_workers: Processes.
        scratch: Where Dask keeps its own files.

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
                yield future.result()
            except dask.KilledWorker as error:
                what = "the workers that packed a shard died again and again, perhaps for want of memory"
                hint = "take fewer --workers or a smaller SHARD_MB; the shards that are whole are kept"
                raise DataError(Fault("classifold shards", what, hint=hint)) from error
            for job in islice(waiting, 1):
                running.add(submit(job))


def _import_dask() -> Any:
    try:
        import distributed
    except ImportError as error:
        what = "packing with several processes needs Dask, which is not installed"
        hint = 'pip install "classifold[shards]", or leave --workers out'
        raise MissingExtraError(Fault("classifold shards", what, hint=hint)) from error
    return distributed
