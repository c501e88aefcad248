"""How large the images are, what their largest parts are, how long the build takes, and how soon one serves.

    python benchmarks/image.py [--fresh] [--serve RUN]

Builds the CPU image (with --fresh without Docker's cache) and weighs its parts. The GPU image is several
gigabytes and is not built here: its size is that of the CPU image and of the wheels that it has besides, as
their own tables of contents say. With --serve it is the slim image alone, which also serves the run, as any
user, with a read-only disk: seconds from `docker run` to the first answer, memory, seconds to stop.
Writes benchmarks/results/image.json, where the other images' figures stay. Some minutes; needs Docker.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import re
import statistics
import subprocess
import tempfile
import time
import urllib.request
import zipfile
import zlib
from pathlib import Path
from typing import Any

from PIL import Image

from classifold.aws.image import build_image
from classifold.aws.image_context import plan_image
from classifold.machine import count_cores
from classifold.settings.loader import build_config

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "image.json"
BASE = "python:3.11-slim"
NUM_PARTS = 12
NUM_STARTS, START_LIMIT = 5, 60
CONFINED = (
    *("--user", "12345:54321", "--read-only", "--tmpfs", "/tmp"),
    *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
)
# Size of each package's folder or file, and what of it is bytecode, in bytes.
WEIGH = """
import collections, json, pathlib, sysconfig
packages = pathlib.Path(sysconfig.get_path("purelib"))
sizes = collections.Counter()
for path in packages.rglob("*"):
    if path.is_file() and not path.is_symlink():
        size = path.stat().st_size
        name = path.relative_to(packages).parts[0].removesuffix(".libs").removesuffix(".py")
        sizes["opencv" if name.startswith(("cv2", "opencv")) else name] += size
        sizes["all bytecode (counted with its package, too)"] += size * (path.suffix == ".pyc")
print(json.dumps(sizes.most_common()))
"""


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fresh", action="store_true", help="build without what Docker has already")
    parser.add_argument("--serve", type=Path, metavar="RUN", help="measure only the image that serves")
    args = parser.parse_args()
    report = json.loads(RESULTS.read_text(encoding="utf-8"))
    if args.serve is None:
        _, cpu = measure("cpu", is_fresh=args.fresh)
        gpu = {"is_built": False, **weigh_gpu(cpu["megabytes"])}
        command = f"python benchmarks/image.py{' --fresh' * args.fresh}"
        report |= {"command": command, "cpu": cpu, "gpu": gpu, **describe_machine()}
    else:
        reference, found = measure("serve", is_fresh=args.fresh)
        serving = time_serving(reference, args.serve.resolve())
        command = f"python benchmarks/image.py{' --fresh' * args.fresh} --serve RUN"
        report["serve"] = {"command": command, **found, "serving": serving, **describe_machine()}
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


def describe_machine() -> dict[str, Any]:
    """Return the day, the machine, and how busy it is."""
    return {
        "when": time.strftime("%Y-%m-%d"),
        "platform": platform.platform(),
        "cores": count_cores(),
        "load_average": [round(value, 1) for value in os.getloadavg()],
    }


def measure(variant: Any, *, is_fresh: bool) -> tuple[str, dict[str, Any]]:
    """Build an image; return its name, and its sizes and how long it took."""
    reference, seconds = build(variant, is_fresh=is_fresh)
    return reference, {**weigh(reference), "build_seconds": round(seconds, 1), "is_fresh_build": is_fresh}


def docker(*words: str, check: bool = True) -> str:
    """Return what docker prints."""
    stderr = None if check else subprocess.DEVNULL
    done = subprocess.run(["docker", *words], check=check, stdout=subprocess.PIPE, stderr=stderr, text=True)
    return done.stdout


def build(variant: Any, *, is_fresh: bool) -> tuple[str, float]:
    """Build an image and return its name and the seconds it took."""
    config = build_config({"PROJECT_NAME": "image-benchmark"})
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        if is_fresh:
            # A first step that Docker has not seen: nothing after it comes from its cache.
            first = "AS dependencies\n"
            dockerfile = (ROOT / "container" / "Dockerfile").read_text()
            Path("container").mkdir()
            Path("container/Dockerfile").write_text(
                dockerfile.replace(first, f"{first}RUN echo {time.time_ns()}\n")
            )
        repository, _, tag = plan_image(config, variant=variant).reference.partition(":")
        listed = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", repository).split()
        built_before = [one for one in listed if one.startswith(f"{repository}:{tag.partition('-')[0]}-")]
        docker("image", "rm", "--force", *built_before, check=False)
        start = time.perf_counter()
        built = build_image(config, variant=variant, tell=print)
    return built.reference, time.perf_counter() - start


def weigh(reference: str) -> dict[str, Any]:
    """Return an image's size, as it lies on the disk and compressed, and its largest parts, in MB."""
    size, base = (int(docker("image", "inspect", "--format", "{{.Size}}", one)) for one in (reference, BASE))
    parts = json.loads(docker("run", "--rm", reference, "python", "-c", WEIGH))
    return {
        "megabytes": round(size / 1e6),
        "megabytes_compressed": round(compress(reference) / 1e6),
        "of_which_base_image": round(base / 1e6),
        "largest_parts": {name: round(part / 1e6) for name, part in parts[: NUM_PARTS + 1]},
    }


def compress(reference: str) -> int:
    """Return the bytes that a registry stores and SageMaker downloads: the layers through gzip."""
    saving = subprocess.Popen(["docker", "save", reference], stdout=subprocess.PIPE)
    packer, size = zlib.compressobj(6, wbits=31), 0
    while saving.stdout and (block := saving.stdout.read(1 << 20)):
        size += len(packer.compress(block))
    saving.wait()
    return size + len(packer.flush())


# The image that serves, as it serves


def time_serving(reference: str, run_dir: Path) -> dict[str, Any]:
    """Return the medians of a few starts with a run that is mounted read-only."""
    starts = [time_start(reference, run_dir) for _ in range(NUM_STARTS)]
    medians = {name: round(statistics.median(one[name] for one in starts), 2) for name in starts[0]}
    return {"starts": NUM_STARTS, "medians": medians}


def time_start(reference: str, run_dir: Path) -> dict[str, float]:
    """Start the image, send a picture, stop it; return seconds and megabytes."""
    file = io.BytesIO()
    Image.effect_noise((640, 480), 60).convert("RGB").save(file, "JPEG")
    options = (
        "--detach",
        "--publish",
        "127.0.0.1::8080",
        "--volume",
        f"{run_dir}:/opt/ml/model:ro",
        *CONFINED,
    )
    start = time.perf_counter()
    name = docker("run", *options, reference, "serve").strip()
    try:
        url = f"http://{docker('port', name, '8080').split()[0]}"
        while not is_answered(f"{url}/ping"):
            if time.perf_counter() - start > START_LIMIT:
                raise SystemExit(f"it is not ready after {START_LIMIT} s: {docker('logs', name)}")
            time.sleep(0.01)
        ready = time.perf_counter()
        body = urllib.request.Request(f"{url}/invocations", file.getvalue(), {"Content-Type": "image/jpeg"})
        urllib.request.urlopen(body).read()
        answered = time.perf_counter()
        (memory,) = re.findall(r"VmHWM:\s+(\d+) kB", docker("exec", name, "cat", "/proc/1/status"))
        stopping = time.perf_counter()
        docker("stop", "--time", "40", name)
        stopped = time.perf_counter()
        code = docker("inspect", "--format", "{{.State.ExitCode}}", name).strip()
    finally:
        docker("rm", "--force", name, check=False)
    if code != "0":
        raise SystemExit(f"the server ended with code {code}")
    return {
        "seconds_to_ping": ready - start,
        "seconds_to_first_answer": answered - start,
        "seconds_to_stop": stopped - stopping,
        "megabytes_of_memory_at_most": int(memory) / 1000,
    }


def is_answered(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


# The GPU image, from its wheels


class Remote(io.RawIOBase):
    """A file on a server, read in pieces: enough for a wheel's table of contents."""

    def __init__(self, url: str) -> None:
        self.url, self.place = url, 0
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD")) as answer:
            self.size = int(answer.headers["Content-Length"])

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self.place = offset + (0, self.place, self.size)[whence]
        return self.place

    def tell(self) -> int:
        return self.place

    def read(self, size: int = -1) -> bytes:
        end = self.size if size < 0 else min(self.size, self.place + size)
        if end <= self.place:
            return b""
        headers = {"Range": f"bytes={self.place}-{end - 1}"}
        with urllib.request.urlopen(urllib.request.Request(self.url, headers=headers)) as answer:
            content: bytes = answer.read()
        self.place += len(content)
        return content


def weigh_gpu(cpu_megabytes: int) -> dict[str, Any]:
    """Return the size of the GPU image, and of the wheels that it has besides the CPU image's, in MB."""
    sizes = {name: weigh_wheel(url) for name, url in find_wheels().items()}
    largest = sorted(sizes.items(), key=lambda item: -item[1][1])
    return {
        "megabytes_estimated": cpu_megabytes + round(sum(unpacked for _, unpacked in sizes.values()) / 1e6),
        "megabytes_of_wheels": round(sum(packed for packed, _ in sizes.values()) / 1e6),
        "largest_parts": {name: round(unpacked / 1e6) for name, (_, unpacked) in largest[:NUM_PARTS]},
    }


def find_wheels() -> dict[str, str]:
    """Return the addresses of the wheels that only the GPU image has; pip knows them."""
    pins = [set(read_pins(variant)) for variant in ("gpu", "cpu")]
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "wanted.txt").write_text("\n".join(sorted(pins[0] - pins[1])))
        words = "pip install --dry-run --no-deps --quiet --report /scratch/report.json -r /scratch/wanted.txt"
        docker("run", "--rm", "--volume", f"{scratch}:/scratch", BASE, *words.split())
        report = json.loads((Path(scratch) / "report.json").read_text())
    return {one["metadata"]["name"]: one["download_info"]["url"] for one in report["install"]}


def read_pins(variant: str) -> list[str]:
    text = (ROOT / "container" / f"requirements-{variant}.txt").read_text()
    return re.findall(r"^[^#].*$", text, re.MULTILINE)


def weigh_wheel(url: str) -> tuple[int, int]:
    """Return a wheel's bytes, as it is downloaded and unpacked."""
    remote = Remote(url)
    with zipfile.ZipFile(remote) as wheel:  # type: ignore[arg-type]
        return remote.size, sum(entry.file_size for entry in wheel.infolist())


if __name__ == "__main__":
    main()
