"""How fast `upload` sends many small pictures and a few large ones, beside `aws s3 sync` and the bare server.

    python benchmarks/upload.py [--pictures 5000] [--large-mb 2000] [--rounds 3] [--server NAME ...]

Every round runs `aws s3 sync` in its default settings, `upload` as files and `upload` as shards (packed anew)
one after another, each a process of its own into an empty prefix of the same server, then each again with
nothing to do. "bare" is a client that only writes prepared bytes to sockets: no upload to that server can be
faster. The servers: moto, a whole stand-in in Python, where most of the time is its own; lean_s3.py, which
shows what the clients cost, as do the seconds of a core in brackets; and the same with 20 ms to every answer,
distant as a network is. Medians over the rounds. Writes benchmarks/results/upload.json. A quarter of an hour
on two cores.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import boto3
import numpy as np
import simplejpeg

from classifold.machine import count_cores

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "upload.json"
PACKAGES = ("classifold", "boto3", "botocore", "awscli", "moto", "urllib3")
DISTANT_MS = 20
BUCKET = "benchmark-pictures"
OURS = """
import json, sys, time
from classifold.aws.clients import Aws
from classifold.aws.upload import upload_data
from classifold.settings.loader import build_config
settings = json.loads(sys.argv[1])
summary = upload_data(Aws(build_config(settings)), tell=lambda line: None)
print(json.dumps({"sent": summary.sent, "skipped": summary.skipped}))
"""
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
    "AWS_ACCESS_KEY_ID": "benchmark",
    "AWS_SECRET_ACCESS_KEY": "benchmark",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=5000, help="small pictures; 0: none")
    parser.add_argument("--large-mb", type=int, default=2000, help="MB of large files; 0: none")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--server", action="append", choices=list(SERVERS), help="default: all")
    parser.add_argument("--folder", type=Path, help="where the files go (default: a temporary folder)")
    parser.add_argument("--no-save", action="store_true", help="print only")
    args = parser.parse_args()
    report: dict[str, Any] = {"command": f"python benchmarks/upload.py {' '.join(sys.argv[1:])}".strip()}
    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        kinds = {
            "small": make_small(Path(scratch) / "small", args.pictures) if args.pictures else None,
            "large": make_large(Path(scratch) / "large", args.large_mb) if args.large_mb else None,
        }
        for server in args.server or SERVERS:
            for kind, folder in kinds.items():
                if folder is not None:
                    report[f"{kind} to {server}"] = compare(folder, server, kind, args.rounds)
    report |= describe_machine()
    if not args.no_save:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


# What is sent


def make_small(folder: Path, count: int) -> Path:
    """Write `count` different JPEGs of about 23 kB in three sets of five classes."""
    noise = np.random.default_rng(0)
    for number in range(count):
        coarse = noise.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        picture = np.kron(coarse, np.ones((12, 12, 1), np.uint8))
        picture ^= noise.integers(0, 16, picture.shape, dtype=np.uint8)
        place = find_place(folder, number)
        place.write_bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(picture), quality=85))
    return folder


def make_large(folder: Path, num_mb: int) -> Path:
    """Write files of 100 MB and of 10 MB, half of the bytes in each kind."""
    sizes = [100] * (num_mb // 200) + [10] * (num_mb // 2 // 10)
    for number, size in enumerate(sizes):
        block = os.urandom(1_000_000)
        with find_place(folder, number).open("wb") as file:
            file.write(b"\xff\xd8\xff\xe0" + block[:-4])
            for _ in range(size - 1):
                file.write(block)
    return folder


def find_place(folder: Path, number: int) -> Path:
    set_name = ("training", "training", "training", "validation", "evaluation")[number % 5]
    place = folder / set_name / f"class {number // 5 % 5}" / f"{number:06}.jpg"
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


# Who sends it


def compare(folder: Path, server: str, kind: str, rounds: int) -> dict[str, Any]:
    """Run every client `rounds` times, one after another; return the medians in seconds."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    num_bytes = sum(path.stat().st_size for path in files)
    taken: dict[str, list[tuple[float, float]]] = {}
    for number in range(rounds):
        # A new server each round: what it was given before does not slow it.
        with SERVERS[server]() as url, tempfile.TemporaryDirectory(dir=folder.parent) as project:
            make_bucket(url)
            for name, work in build_ways(folder, url, Path(project), kind).items():
                if name == "bare" and server == "distant":
                    continue  # its four connections would measure the distance alone
                taken.setdefault(name, []).append(measure(work))
        print(f"{kind} to {server}, round {number + 1}:", last(taken), flush=True)
    seconds = {name: round(statistics.median(clock for clock, _ in runs), 2) for name, runs in taken.items()}
    cpu = {name: round(statistics.median(cpu for _, cpu in runs), 2) for name, runs in taken.items()}
    rivals = [name for name in ("files", "shards", "bare") if name in seconds]
    return {
        "files": len(files),
        "mb": round(num_bytes / 1e6, 1),
        "seconds": seconds,
        "client_cpu_seconds": cpu,
        "all_seconds": {name: [clock for clock, _ in runs] for name, runs in taken.items()},
        "times_faster_than_sync": {name: round(seconds["aws s3 sync"] / seconds[name], 2) for name in rivals},
    }


def build_ways(folder: Path, url: str, project: Path, kind: str) -> dict[str, Callable[[], object]]:
    command = ["aws", "s3", "sync", str(folder), f"s3://{BUCKET}/sync/", "--quiet", "--endpoint-url", url]
    sync = lambda: run([shutil.which("aws") or "aws", *command[1:]], url, project)  # noqa: E731
    ways: dict[str, Callable[[], object]] = {
        "aws s3 sync": sync,
        "files": lambda: upload(folder, url, project, "files"),
    }
    again: dict[str, Callable[[], object]] = {
        "aws s3 sync again": sync,
        "files again": lambda: upload(folder, url, project, "files", sends=0),
    }
    if kind == "small":
        ways["shards"] = lambda: upload(folder, url, project, "shards")
        again["shards again"] = lambda: upload(folder, url, project, "shards", sends=0)
        ways["bare"] = lambda: send_bare(folder, url)
    return {**ways, **again}


def upload(folder: Path, url: str, project: Path, way: str, sends: int | None = None) -> None:
    """Run `upload` in a process of its own; where `sends` is given it must send so many files."""
    split = project / "split"
    if not split.exists():
        split.symlink_to(folder)
    settings = {
        "DATA_BUCKET": BUCKET,
        "DATA_NAME": "ours",
        "SPLIT_LOCAL_DIR": str(split),
        "UPLOAD_AS": way,
    }
    answer = json.loads(run([sys.executable, "-P", "-c", OURS, json.dumps(settings)], url, project))
    if sends is not None and answer["sent"] != sends:
        raise SystemExit(f"sent {answer['sent']} files, expected {sends}")


def run(command: list[str], url: str, project: Path) -> str:
    done = subprocess.run(
        command,
        cwd=project,
        env={**ENVIRONMENT, "AWS_ENDPOINT_URL": url},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout


def send_bare(folder: Path, url: str) -> None:
    """Write one prepared request a picture to a socket and wait for the answer: what the server can take."""
    place = urlsplit(url)
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]

    def send(path: Path) -> None:
        body = path.read_bytes()
        head = (
            f"PUT /{BUCKET}/bare/{quote(str(path.relative_to(folder)))} HTTP/1.1\r\nHost: {place.netloc}\r\n"
            "Authorization: AWS4-HMAC-SHA256 Credential=b/20260101/eu-west-1/s3/aws4_request, "
            f"SignedHeaders=host, Signature=0\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        with socket.create_connection((place.hostname, place.port)) as line:
            line.sendall(head.encode() + body)
            if b" 200 " not in line.recv(65536):
                raise SystemExit("the server refused a bare request")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(send, paths))


def measure(work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds on the clock, and those of a core that the client took."""
    start, before = time.perf_counter(), count_cpu()
    work()
    return round(time.perf_counter() - start, 2), round(count_cpu() - before, 2)


def count_cpu() -> float:
    """Return the core seconds of this process and of its children that ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def last(taken: dict[str, list[tuple[float, float]]]) -> str:
    return ", ".join(f"{name} {clock[-1][0]:.1f} s ({clock[-1][1]:.1f})" for name, clock in taken.items())


# The servers


@contextmanager
def serve_moto() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    process = subprocess.Popen([sys.executable, "-P", "-c", code], stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("moto did not start")


@contextmanager
def serve_lean(late_ms: int = 0) -> Iterator[str]:
    with subprocess.Popen(
        [sys.executable, str(HERE / "lean_s3.py"), str(late_ms)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield str(process.stdout.readline()).strip() if process.stdout else ""


SERVERS: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "moto": serve_moto,
    "lean": serve_lean,
    "distant": lambda: serve_lean(DISTANT_MS),
}


def make_bucket(url: str) -> None:
    s3 = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="eu-west-1",
        aws_access_key_id="benchmark",
        aws_secret_access_key="benchmark",
    )
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})


def describe_machine() -> dict[str, Any]:
    return {
        "when": time.strftime("%Y-%m-%d"),
        "platform": platform.platform(),
        "cores": count_cores(),
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


if __name__ == "__main__":
    main()
