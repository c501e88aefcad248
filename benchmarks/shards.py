"""How fast small pictures are packed into shards, and read from there instead of from files.

    python benchmarks/shards.py [5000] [--shard-mb 150] [--folder DIR]

Makes that many different JPEGs of about 1 kB in ten classes, divided 70 : 15 : 15. Each step is a process of
its own: packing, packing again where nothing changed and where one picture is new, loading the sets, and
reading every training picture in order with two threads, as bytes and decoded. The disk's cache is warm: the
files were just written. Writes benchmarks/results/shards.json. Ten seconds on two cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from split import describe_machine, make_pictures

RESULTS = Path(__file__).parent / "results" / "shards.json"
SHARES = {"training": 0.7, "validation": 0.15, "evaluation": 0.15}
# Measures its own work alone: neither Python's start nor the imports.
MEASURED = """
import json, resource, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from classifold.pictures.decode import load_picture
from classifold.dataset.scan import load_sets
from classifold.packing.pack import pack_sets
sets_dir, shards_dir, shard_mb = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
{before}
start = time.perf_counter()
{work}
seconds = time.perf_counter() - start
unit = 1 if sys.platform == "darwin" else 1024
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
print(json.dumps(dict(seconds=round(seconds, 3), peak_memory_mb=round(peak, 1))))
"""
PACK = "pack_sets(sets_dir, shards_dir, shard_mb=shard_mb)"
ADD = """
first = next((sets_dir / "training" / "class 0").iterdir())
(first.parent / "new.jpg").write_bytes(first.read_bytes())"""
PICTURES = """
pictures = load_sets({folder}).pictures["training"]
threads = ThreadPoolExecutor(2)
def read(picture):
    return picture.read_bytes(max_pixels=10**8)
def decode(picture):
    return load_picture(read(picture), size=96, max_pixels=10**8)"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("count", nargs="?", type=int, default=5000)
    parser.add_argument("--shard-mb", type=int, default=150)
    parser.add_argument("--folder", type=Path, help="where the pictures go (default: a temporary folder)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        measured = measure(Path(scratch), args.count, args.shard_mb)
    report = {"command": "python benchmarks/shards.py", **measured, **describe_machine()}
    text = json.dumps(report, indent=2)
    print(text)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text + "\n", encoding="utf-8")


def measure(scratch: Path, count: int, shard_mb: int) -> dict[str, Any]:
    for name, share in SHARES.items():
        make_pictures(scratch / "sets" / name, round(count * share))
    folders = (str(scratch / "sets"), str(scratch / "shards"), str(shard_mb))

    def run(work: str, before: str = "") -> dict[str, float]:
        code = MEASURED.format(before=before, work=work)
        command = [sys.executable, "-P", "-c", code, *folders]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return answer

    steps = {
        "pack": run(PACK),
        "pack_again": run(PACK),
        "pack_one_new": run(PACK, ADD),
        "load_sets_files": run("load_sets(sets_dir)"),
        "load_sets_shards": run("load_sets(shards_dir)"),
    }
    for folder in ("sets", "shards"):
        before = PICTURES.format(folder=f"{folder}_dir")
        kind = "files" if folder == "sets" else "shards"
        steps[f"read_{kind}"] = run("for _ in threads.map(read, pictures): pass", before)
        steps[f"decode_{kind}"] = run("for _ in threads.map(decode, pictures): pass", before)
    training = round(count * SHARES["training"])
    return {
        "pictures": count,
        "megabytes": round(sum(path.stat().st_size for path in (scratch / "shards").rglob("*.tar")) / 1e6, 1),
        "shards": len(list((scratch / "shards").rglob("*.tar"))),
        "steps": steps,
        "pictures_per_second": {
            "pack": round(count / steps["pack"]["seconds"]),
            **{
                name: round(training / steps[name]["seconds"])
                for name in ("read_files", "read_shards", "decode_files", "decode_shards")
            },
        },
    }


if __name__ == "__main__":
    main()
