"""What the server counts, for Prometheus: requests, answers, batches and the queue."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from classifold.predict.predictor import Answer

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Names the folder in which several processes count together; set before this module is imported."""
_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """The counters of one server; `/metrics` of any process adds up those of all."""

    def __init__(self) -> None:
        # When each counter began is a gauge of its own otherwise, which Prometheus needs for nothing.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        registry = self._registry
        self._requests = Counter(
            "classifold_requests", "Requests by path and HTTP status.", ["path", "status"], registry=registry
        )
        self._seconds = Histogram(
            "classifold_request_seconds",
            "Time from a request's header to the end of its answer, by path.",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._pictures = Counter(
            "classifold_pictures",
            "Pictures by outcome: answered, unknown or unreadable.",
            ["outcome"],
            registry=registry,
        )
        self._batch = Histogram(
            "classifold_batch_pictures",
            "Pictures per call of the model.",
            buckets=(1, 2, 4, 8, 16),
            registry=registry,
        )
        self._work = Counter(
            "classifold_work_seconds",
            "Time of the threads by step: read (decode and resize) or model.",
            ["step"],
            registry=registry,
        )
        self._open = Gauge(
            "classifold_requests_in_progress",
            "Requests in progress.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._waiting = Gauge(
            "classifold_queue_pictures",
            "Pictures that wait.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._reloads = Counter(
            "classifold_reloads", "Reloads of the model, by outcome.", ["outcome"], registry=registry
        )
        self._find_waiting: Callable[[], int] = lambda: 0

    def watch_queue(self, count: Callable[[], int]) -> None:
        """Take the number of pictures that wait from `count`."""
        self._find_waiting = count

    def begin_request(self) -> None:
        """Count a request that begins."""
        self._open.inc()

    def end_request(self, path: str, status: int, seconds: float) -> None:
        """Count a request that ends.

        Args:
            path: The route's path, of which there are few.
            status: The HTTP status.
            seconds: What it took.
        """
        self._open.dec()
        self._waiting.set(self._find_waiting())
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def count_answers(self, answers: Sequence[Answer | str]) -> None:
        """Count answers by outcome."""
        for answer in answers:
            if isinstance(answer, str):
                self._pictures.labels("unreadable").inc()
            else:
                self._pictures.labels("unknown" if answer.unknown else "answered").inc()

    def observe_batch(self, size: int, read_s: float, model_s: float) -> None:
        """Count a call of the model, and the seconds that reading its pictures and the model took."""
        self._batch.observe(size)
        self._work.labels("read").inc(read_s)
        self._work.labels("model").inc(model_s)

    def count_reload(self, *, is_done: bool) -> None:
        """Count a change of the model, done or refused."""
        self._reloads.labels("done" if is_done else "refused").inc()

    def render(self) -> tuple[bytes, str]:
        """Return the text for Prometheus, of all processes together, and its type."""
        self._waiting.set(self._find_waiting())
        registry = self._registry
        if os.environ.get(MULTIPROCESS_VARIABLE):
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_LATEST


def forget_process(number: int, folder: Path) -> None:
    """Leave the gauges of a process that has ended out of the sums.

    Args:
        number: Number of the process.
        folder: The folder in which the processes count together.
    """
    multiprocess.mark_process_dead(number, str(folder))  # type: ignore[no-untyped-call]
