"""What other tools take for near copies in a folder, by their documented defaults: one JSON line of pairs.

    PYTHON benchmarks/peers/near_copies.py cleanvision|imagededup_phash|imagededup_cnn|fastdup FOLDER

Needs cleanvision, imagededup or fastdup in that Python: `pip install cleanvision imagededup fastdup`.
benchmarks/check_copies.py runs it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
import tempfile
import time
from pathlib import Path


def ask_cleanvision(folder: str) -> list[tuple[str, str]]:
    from cleanvision import Imagelab

    lab = Imagelab(data_path=folder)
    lab.find_issues({"near_duplicates": {}, "exact_duplicates": {}}, n_jobs=2)
    sets = [one for kind in ("near_duplicates", "exact_duplicates") for one in lab.info[kind]["sets"]]
    return [pair for group in sets for pair in itertools.combinations(group, 2)]


def ask_imagededup(folder: str, name: str) -> list[tuple[str, str]]:
    from imagededup import methods

    found = getattr(methods, name)().find_duplicates(image_dir=folder)
    return [(one, other) for one, others in found.items() for other in others]


def ask_fastdup(folder: str) -> list[tuple[str, str]]:
    import fastdup

    with tempfile.TemporaryDirectory() as work:
        job = fastdup.create(work_dir=work, input_dir=folder)
        job.run(ccthreshold=0.96, threshold=0.9, num_threads=2)
        similar = job.similarity()
        # fastdup calls pairs from 0.96 on near duplicates.
        similar = similar[similar["distance"] >= 0.96]
        return list(zip(similar["filename_from"], similar["filename_to"], strict=True))


def main() -> None:
    tool, folder = sys.argv[1:]
    start = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        if tool == "cleanvision":
            pairs = ask_cleanvision(folder)
        elif tool == "fastdup":
            pairs = ask_fastdup(folder)
        else:
            pairs = ask_imagededup(folder, {"imagededup_phash": "PHash", "imagededup_cnn": "CNN"}[tool])
    seconds = time.perf_counter() - start
    names = [(Path(one).name, Path(other).name) for one, other in pairs]
    print(json.dumps({"pairs": names, "seconds": seconds}), flush=True)
    os._exit(0)  # fastdup's threads outlive it


if __name__ == "__main__":
    main()
