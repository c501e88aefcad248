"""How split, shard index and packing grow with a listing: up to 1,000,000 entries, and two Dask workers.

    python benchmarks/large.py [10000 100000 1000000] [--folder DIR] [--pictures 20000]

Each step is a process of its own: dividing an S3 Inventory of that many entries in a hundred classes (no
picture is read), planning the shards of its manifests, writing the index of those shards (with made-up
checksums, since there are no pictures), and reading it as training does. Then pictures of about 2 kB are
packed by this process alone and by two Dask workers, whose start counts. Writes
benchmarks/results/large.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from split import describe_machine, make_pictures

RESULTS = Path(__file__).parent / "results" / "large.json"
NUM_CLASSES = 100
MEASURED = """
import json, resource, sys, time
from pathlib import Path
from classifold.settings.loader import build_config
from classifold.names import SETS, set_manifest
folder = Path(sys.argv[1])
{before}
start, used = time.perf_counter(), time.process_time()
{work}
seconds, cpu = time.perf_counter() - start, time.process_time() - used
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
answer = dict(seconds=round(seconds, 2), cpu_seconds=round(cpu, 2), peak_memory_mb=round(peak, 1))
print(json.dumps(answer | dict(note=note)))
"""
SPLIT = """
values = dict(DATA_MANIFEST=str(folder / "list.csv"), MANIFEST_ROOT="s3://pets/photos/")
summary = split_dataset(build_config(values))
note = {name: sum(counts.values()) for name, counts in summary.counts.items()}"""
MANIFESTS = """
manifests = {name: folder / "list-split" / set_manifest(name) for name in SETS}
shards_dir = folder / "shards"; shards_dir.mkdir(exist_ok=True)"""
PLAN = """
jobs = [job for plan in plan_sets(manifests, shards_dir, shard_mb=150) for job in plan.jobs]
note = len(jobs)"""
# Offsets as packing would give them: what the index costs, without a million files.
INDEX = """
counts = {name: sum(job.num_pictures for job in jobs if job.set_name == name) for name in SETS}
shards = {name: [PackedShard(job.name.partition("/")[2], job.size, "0" * 64)
          for job in jobs if job.set_name == name] for name in SETS}
def entries(name):
    for job in jobs:
        offset = 0
        for line in iter_job_lines(job) if job.set_name == name else ():
            yield Entry(line.key, job.number, offset + 512, line.size, 0)
            offset += member_size(line.key, line.size)
head = IndexHead(150, counts, shards)
write_index(shards_dir / "shards.json", head, {name: entries(name) for name in SETS})
note = (shards_dir / "shards.json").stat().st_size"""
INDEX_IMPORTS = """
from classifold.packing.plan import iter_job_lines
from classifold.packing.pack import plan_sets
from classifold.dataset.shard_index import Entry, IndexHead, PackedShard, write_index
from classifold.dataset.tar_writer import member_size"""
# The shards themselves are not there: holes of their sizes stand for them.
HOLES = """
from classifold.dataset.shard_index import read_index_head
from classifold.dataset.scan import load_sets
head = read_index_head(folder / "shards")
for name in SETS:
    (folder / "shards" / name).mkdir(exist_ok=True)
    for shard in head.shards[name]:
        with (folder / "shards" / name / shard.name).open("wb") as file:
            file.truncate(shard.size)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss"""
LOAD = """
sets = load_sets(folder / "shards")
count = sum(map(len, sets.pictures.values()))
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
note = dict(pictures=count, bytes_a_picture=round(grown * 1024 / count))"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("counts", nargs="*", type=int, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="where the files go (default: a temporary folder)")
    parser.add_argument("--pictures", type=int, default=20_000, help="that are packed")
    args = parser.parse_args()
    report: dict[str, Any] = {"command": "python benchmarks/large.py", **describe_machine(), "runs": []}
    for count in args.counts:
        with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
            report["runs"].append(measure_listing(Path(scratch), count))
            print(json.dumps(report["runs"][-1]), flush=True)
    if args.pictures:
        with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
            report["packing"] = measure_packing(Path(scratch), args.pictures)
    report["load_average_after"] = [round(value, 1) for value in os.getloadavg()]
    text = json.dumps(report, indent=2)
    print(text)
    RESULTS.write_text(text + "\n", encoding="utf-8")


def measure_listing(scratch: Path, count: int) -> dict[str, Any]:
    write_inventory(scratch / "list.csv", count)
    plan = f"{INDEX_IMPORTS}{MANIFESTS}"
    return {
        "entries": count,
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "split": run(SPLIT, scratch, "from classifold.dataset.split import split_dataset"),
        "plan": run(PLAN, scratch, plan),
        "index": run(INDEX, scratch, f"{plan}{PLAN}"),
        "load_sets": run(LOAD, scratch, HOLES),
    }


def write_inventory(path: Path, count: int) -> None:
    """Write an S3 Inventory; every hundredth entry is a copy of the one before it in its class."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            content = number - NUM_CLASSES if number % (100 * NUM_CLASSES) >= 99 * NUM_CLASSES else number
            etag = hashlib.md5(str(content).encode()).hexdigest()
            key = f"photos/class{number % NUM_CLASSES:03}/{number:09}.jpg"
            size = 50_000 + content * 7919 % 100_000
            file.write(f'"pets","{key}","{size}","2026-01-01T00:00:00.000Z","{etag}"\n')


def run(work: str, folder: Path, before: str = "") -> dict[str, Any]:
    code = MEASURED.format(before=before, work=work)
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(folder)], check=True, stdout=subprocess.PIPE, text=True
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def measure_packing(scratch: Path, count: int) -> dict[str, Any]:
    """Pack by this process alone and by two workers, whose start is part of the time."""
    from classifold.packing.pack import pack_sets

    for name, share in (("training", 0.7), ("validation", 0.15), ("evaluation", 0.15)):
        make_pictures(scratch / "sets" / name, round(count * share))
    found: dict[str, Any] = {"pictures": count}
    digests = set()
    for workers in (1, 2):
        shards_dir = scratch / f"shards{workers}"
        summary = pack_sets(scratch / "sets", shards_dir, shard_mb=2, num_workers=workers)
        if summary is None:
            raise SystemExit("a share was packed")
        found |= {"megabytes": round(summary.num_bytes / 1e6, 1), "shards": len(summary.written)}
        name = "this_process_alone" if workers == 1 else "two_dask_workers"
        rate = round(count / summary.seconds)
        found[name] = {"seconds": round(summary.seconds, 2), "pictures_per_second": rate}
        digests.add(hash_folder(shards_dir))
        shutil.rmtree(shards_dir)
    found["same_bytes"] = len(digests) == 1
    return found


def hash_folder(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
