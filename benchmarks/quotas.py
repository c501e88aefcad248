"""How near each class comes to its share of every set, what new pictures move, and the time for a million.

    python benchmarks/quotas.py [FOLDER...] [--large 1000000]

Divides the pictures of each folder (default: those beside the checkout) by their content in three ways: ours,
a draw for each picture alone as in versions before, and scikit-learn's stratified `train_test_split`. Then a
tenth of the pictures is taken away and comes back, and the pictures that change their set are counted. Then a
million made-up contents are divided, and once more after 10,000 were added. No picture is decoded. Writes
benchmarks/results/quotas.json. About five minutes on two cores.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from sklearn.model_selection import train_test_split

from classifold.dataset.assignment import draw, mark_copies
from classifold.dataset.division import divide
from classifold.dataset.index import (
    SET_RANKS,
    Reading,
    Row,
    add_earlier,
    add_pictures,
    add_readings,
    index_readings,
    open_index,
)
from classifold.dataset.walk import iter_pictures
from classifold.machine import count_cores
from classifold.settings.config import Config

RESULTS = Path(__file__).parent / "results" / "quotas.json"
DATA = Path(__file__).parents[2] / "shared" / "data"
FOLDERS = ("flowers5_500", "trashnet_600", "clothing10_713")
SHARE = 0.15
HELD_OUT = ("validation", "evaluation")
# The record of a split of the same settings, for `divide`.
HEAD = {"seed": 0, "group_pattern": "", "shares": dict.fromkeys(HELD_OUT, SHARE)}
Sets = dict[str, str]  # set by content's hash
Pictures = Mapping[str, str]  # class by content's hash


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found = [DATA / name for name in FOLDERS if (DATA / name).is_dir()]
    parser.add_argument("folders", nargs="*", type=Path, default=found)
    parser.add_argument("--large", type=int, default=1_000_000, help="number of made-up contents")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        num_pictures, num_classes, folder = args.one
        print(json.dumps(divide_large(int(num_pictures), int(num_classes), Path(folder))))
        return
    report: dict[str, Any] = {"command": "python benchmarks/quotas.py", "share": SHARE}
    report["folders"] = {folder.name: compare(folder) for folder in args.folders}
    report["large"] = [run_large(args.large, num_classes) for num_classes in (10, 10_000)]
    report |= describe_machine()
    print(json.dumps(report["large"], indent=1))
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def compare(folder: Path) -> dict[str, Any]:
    """Measure three ways to divide one folder."""
    pictures = read_contents(folder)
    ways: dict[str, Callable[[Pictures], Sets]] = {
        "classifold": split_by_quotas,
        "draws alone": split_by_draws,
        "train_test_split": split_stratified,
    }
    fewer = {digest: name for digest, name in pictures.items() if draw(1, digest) >= 0.1}
    results: dict[str, Any] = {"pictures": len(pictures), "taken away": len(pictures) - len(fewer)}
    for way, split in ways.items():
        before, after = split(fewer), split(pictures)
        results[way] = {**describe_shares(pictures, after), "changed": count_changed(before, after)}
    before = split_by_quotas(fewer)
    after = split_by_quotas(pictures, before)
    results["classifold, split again"] = {
        **describe_shares(pictures, after),
        "changed": count_changed(before, after),
    }
    for way, measured in results.items():
        print(f"{folder.name}, {way}: {measured}", flush=True)
    return results


def read_contents(folder: Path) -> dict[str, str]:
    """Return the class of every content; a content in two classes counts for one of them."""
    return {
        hashlib.sha256(picture.path.read_bytes()).hexdigest(): picture.class_name
        for picture in iter_pictures(folder)
    }


def split_by_quotas(pictures: Pictures, earlier: Sets | None = None) -> Sets:
    """Divide as `classifold split` does, with or without the record of an earlier split."""
    with open_index() as index:
        fill(index, pictures.items())
        add_earlier(index, (earlier or {}).items())
        mark_copies(index)
        divide(index, Config(), made=HELD_OUT, head=None if earlier is None else HEAD)
        rows = index.execute("SELECT HEX(hash), rank FROM picture WHERE status = 'kept'")
        return {digest.lower(): SET_RANKS[rank] for digest, rank in rows}


def fill(index: Any, pictures: Iterable[tuple[str, str]]) -> None:
    """Add pictures, (SHA-256 in hexadecimal, class), to an index as the walk and the reader do."""
    rows = (
        Row(class_name, f"{class_name}/{digest}", bytes.fromhex(digest), None, None)
        for digest, class_name in pictures
    )
    add_pictures(index, rows)
    index.execute("CREATE TEMP TABLE found AS SELECT id, path FROM picture")
    add_readings(index, (Reading(*row, None) for row in index.execute("SELECT id, 1, path FROM found")))
    index_readings(index)


def split_by_draws(pictures: Pictures) -> Sets:
    """Divide as versions before the quotas did: each picture by its own draw."""
    return {digest: choose(draw(0, f"h:{digest.upper()}")) for digest in pictures}


def choose(value: float) -> str:
    if value < SHARE:
        return "evaluation"
    return "validation" if value >= 1 - SHARE else "training"


def split_stratified(pictures: Pictures) -> Sets:
    """Divide as users of scikit-learn do: two stratified cuts with a fixed seed."""
    digests, labels = list(pictures), list(pictures.values())
    rest, evaluation = train_test_split(digests, test_size=SHARE, stratify=labels, random_state=0)
    labels = [pictures[digest] for digest in rest]
    share = SHARE / (1 - SHARE)
    training, validation = train_test_split(rest, test_size=share, stratify=labels, random_state=0)
    sets = zip(("training", "validation", "evaluation"), (training, validation, evaluation), strict=True)
    return {digest: name for name, members in sets for digest in members}


def describe_shares(pictures: Pictures, sets: Sets) -> dict[str, Any]:
    """Return the counts by class, and how many pictures the worst of them is from its share."""
    totals = Counter(pictures[digest] for digest in sets)
    counts = Counter((pictures[digest], name) for digest, name in sets.items())
    off = [abs(counts[one, name] - SHARE * total) for one, total in totals.items() for name in HELD_OUT]
    by_class = {
        one: {"total": total, **{name: counts[one, name] for name in HELD_OUT}}
        for one, total in sorted(totals.items())
    }
    return {"largest_difference": round(max(off), 2), "classes": by_class}


def count_changed(before: Sets, after: Sets) -> dict[str, int]:
    """Return how many pictures that are in both have another set, and how many left a held-out set."""
    moved = [(before[digest], after.get(digest)) for digest in before if before[digest] != after.get(digest)]
    return {"all": len(moved), "out of held-out": sum(old in HELD_OUT for old, _ in moved)}


def run_large(num_pictures: int, num_classes: int) -> dict[str, Any]:
    """Divide many made-up contents in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--one", str(num_pictures), str(num_classes), folder]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"pictures": num_pictures, "classes": num_classes, **measured}


def divide_large(num_pictures: int, num_classes: int, folder: Path) -> dict[str, Any]:
    """Return the seconds of two splits, the second with 1 % more pictures, and the process's peak memory."""
    results: dict[str, Any] = {}
    with open_index(folder / "first.sqlite") as first, open_index(folder / "again.sqlite") as again:
        for index, count in ((first, num_pictures), (again, num_pictures + num_pictures // 100)):
            fill(index, ((hash_number(n), f"class {n % num_classes}") for n in range(count)))
            rows = first.execute("SELECT HEX(hash), rank FROM picture WHERE rank NOT NULL")
            add_earlier(index, ((digest, SET_RANKS[rank]) for digest, rank in rows))
            # One thread's own time, which other programs on the machine change little.
            start = time.process_time()
            divide(index, Config(), made=HELD_OUT, head=None if index is first else HEAD)
            seconds = round(time.process_time() - start, 2)
            results["first_cpu_seconds" if index is first else "again_cpu_seconds"] = seconds
        query = "SELECT COUNT(*) FROM picture JOIN earlier USING (hash) WHERE picture.rank != earlier.rank"
        results["changed"] = again.execute(query).fetchone()[0]
    return {**results, "peak_memory_mb": round(read_memory())}


def hash_number(number: int) -> str:
    return hashlib.sha256(b"%d" % number).hexdigest()


def read_memory() -> float:
    """Return the most memory that this process has held, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def describe_machine() -> dict[str, Any]:
    return {
        "when": time.strftime("%Y-%m-%d"),
        "platform": platform.platform(),
        "cores": count_cores(),
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
