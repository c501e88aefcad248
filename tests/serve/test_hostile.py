"""Hostile requests against a real server; benchmarks/serve_hostile.py sends ten thousand."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from made_servers import LocalServer, draw, serving
from made_spots import make_spot_run
from serve_attacks import ATTACKS, build_bomb, build_request
from serve_hostile import (
    OPTIONS,
    Found,
    ask,
    attack,
    deliver,
    draw_picture,
    judge,
    read_state,
    settle,
    slow_clients,
)
from serve_soak import judge as judge_soak

NUM_REQUESTS = 150


def test_hostile_requests_leave_no_500_no_traceback_no_connection_and_the_same_answer(
    tmp_path: Path,
) -> None:
    run = make_spot_run(tmp_path / "run", with_distance=True)
    picture, found = draw_picture(), Found()
    with serving(tmp_path, run, *OPTIONS) as server:
        wanted = ask(server.port, picture)
        attack(server.port, picture, count=100, clients=8, seed=1, name="x", found=Found())
        before = settle(server.process.pid, {"descriptors": 0}, seconds=2)
        with slow_clients(server.port, picture, count=6):
            attack(server.port, picture, count=NUM_REQUESTS, clients=8, seed=0, name="x", found=found)
        after = settle(server.process.pid, before)
        is_same = ask(server.port, picture) == wanted
        log = server.log
    # Threads of pools come into being as they are needed, up to a bound; the benchmark counts them.
    assert judge(found, before, {**after, "threads": 0}, log, is_same=is_same) == []
    assert after["threads"] < 32
    assert sum(found.statuses.values()) == NUM_REQUESTS
    assert {"200", "400", "405", "413", "422", "left"} <= set(found.statuses)


def test_a_large_picture_leaves_no_memory_behind(tmp_path: Path) -> None:
    run = make_spot_run(tmp_path / "run")
    # 36 megapixels, 30 kB as a file; as RGB it takes 108 MB.
    large = build_request(build_bomb(6_000, 6_000), kind="image/png")
    limits = ("--timeout", 60, "--threads", 1, "--set", "MAX_PIXELS=40000000")
    with serving(tmp_path, run, *limits) as server:
        before = read_state(server.process.pid)["memory_mb"]
        for _ in range(2):
            assert deliver(server.port, large, "whole", random.Random(0)) == "200"
        assert read_state(server.process.pid)["memory_mb"] < before + 80


def test_a_server_that_a_client_has_left_says_nothing_of_a_mistake(local: LocalServer) -> None:
    """As uvloop says it, where the connection is closed and the server has not been told yet."""
    import asyncio

    async def ask_and_leave() -> None:
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/metadata",
            "raw_path": b"/metadata",
            "query_string": b"",
            "headers": [(b"host", b"127.0.0.1")],
            "client": ("127.0.0.1", 1),
            "http_version": "1.1",
            "scheme": "http",
            "server": ("127.0.0.1", 8080),
            "root_path": "",
        }

        async def receive() -> dict[str, str]:
            return {"type": "http.disconnect"}

        async def send(_message: object) -> None:
            raise RuntimeError(
                "unable to perform operation on <TCPTransport closed=True>; the handler is closed"
            )

        await local.app(scope, receive, send)

    before = len(local.log.getvalue())
    asyncio.run(ask_and_leave())
    said = local.log.getvalue()[before:]
    assert "Traceback" not in said
    assert "GET /metadata 499" in said


@pytest.mark.parametrize("build", ATTACKS)
def test_the_same_seed_draws_the_same_attack(build: object) -> None:
    assert callable(build)
    first, second, other = (build(random.Random(seed), draw()) for seed in (1, 1, 2))
    assert first == second
    assert isinstance(other, bytes)


@pytest.mark.parametrize(("step", "is_wrong"), [(0.0, False), (0.02, False), (0.2, True)])
def test_a_soak_is_judged_by_the_slope_of_its_memory(step: float, *, is_wrong: bool) -> None:
    rng = random.Random(0)
    samples = [
        {"seconds": 2.0 * n, "rss_mb": 200 + n * step + rng.uniform(-5, 5), "descriptors": 30, "threads": 9}
        for n in range(300)
    ]
    verdict = judge_soak(samples, {"statuses": {"200": 1}})
    assert bool(verdict["wrong"]) == is_wrong
    assert verdict["slope_mb_per_hour"] == pytest.approx(1800 * step, abs=12)


def test_a_soak_is_wrong_where_descriptors_are_left_open_or_a_500_came() -> None:
    samples = [
        {"seconds": 2.0 * n, "rss_mb": 200.0, "descriptors": 30 + n // 10, "threads": 9} for n in range(100)
    ]
    verdict = judge_soak(samples, {"statuses": {"500": 3}})
    assert [one.partition(":")[0] for one in verdict["wrong"]] == [
        "descriptors",
        "3 requests were answered with 500",
    ]
