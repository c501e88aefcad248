"""Makes the image's environment lean: removes what no program in it opens, and compiles bytecode.

What scanners of licenses and vulnerabilities read stays, and stays true: METADATA, license texts, and RECORD,
which lists every installed file with its hash.

python lean.py /opt/classifold/venv VARIANT
"""

from __future__ import annotations

import base64
import compileall
import csv
import hashlib
import os
import py_compile
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

# Folders below site-packages: C headers that only building TensorFlow's extensions needs, and tests.
HEADERS = ("tensorflow/include", "tensorflow/xla_aot_runtime_src")
TESTS = ("tests", "onnx/backend/test", "tensorflow/python/compiler/tensorrt/test")
# Further ones that only training opens, or nobody: the image that serves lacks them.
UNSERVED = (
    *("numpy/distutils", "numpy/f2py"),
    *("onnxruntime/datasets", "onnxruntime/quantization", "onnxruntime/tools", "onnxruntime/transformers"),
)
# ONNX Runtime a second time, for plugins written in C; Python's module has it built in.
UNSERVED_LIBRARY = "onnxruntime/capi/libonnxruntime.so.*"
SERVE = "serve"
# A symbol table smaller than this stays: what is not touched cannot break.
WORTH_BYTES = 1_000_000
# Their texts must go with the compiled code, which the folders of headers have them for.
_LICENSE = re.compile(r"licen[cs]e|notice|copying|copyright", re.IGNORECASE)
# The section in which Rust programs list the packages that they were built from, for scanners.
_PACKAGE_LIST = b".dep-v0\0"
_ELF64_LITTLE = b"\x7fELF\x02\x01"


def find_unneeded(packages: Path, *, variant: str = "") -> Iterator[Path]:
    """Yield the folders that nothing imports when a model is trained, exported or served."""
    for name in (*HEADERS, *TESTS, *(UNSERVED if variant == SERVE else ())):
        if (packages / name).is_dir():
            yield packages / name
    # Of packages that are not tests themselves.
    found = (path for path in sorted(packages.glob("*/**/tests")) if path.is_dir())
    yield from (path for path in found if not path.relative_to(packages).parts[0].endswith(".dist-info"))


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that is in it but license texts."""
    for parent, folders, files in os.walk(folder, topdown=False):
        for name in files:
            if not _LICENSE.match(name):
                Path(parent, name).unlink()
        for name in folders:
            path = Path(parent, name)
            if path.is_symlink():
                path.unlink()
            elif not any(path.iterdir()):
                path.rmdir()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def strip_library(path: Path) -> int:
    """Cut off what follows the last part of a shared library that is ever loaded, and return the bytes saved.

    What follows are the tables for linkers and debuggers: the loader goes by the program header alone.
    Source: the ELF-64 object file format, version 1.5, chapters on the file and the program header.
    """
    with path.open("r+b") as file:
        head = file.read(64)
        if len(head) < 64 or head[:6] != _ELF64_LITTLE:
            return 0
        (start,) = struct.unpack_from("<Q", head, 32)
        size, count = struct.unpack_from("<HH", head, 54)
        file.seek(start)
        table = file.read(size * count)
        parts = [struct.unpack_from("<QQQQ", table, index * size + 8) for index in range(count)]
        end = max(start + len(table), *(offset + length for offset, _, _, length in parts))
        saved = path.stat().st_size - end
        file.seek(end)
        if saved < WORTH_BYTES or _PACKAGE_LIST in file.read():
            return 0
        file.seek(40)
        file.write(bytes(8))  # there is no table of sections any more
        file.seek(58)
        file.write(bytes(6))  # size and number of its entries, and which of them holds the names
        file.truncate(end)
        return saved


def mend_record(record: Path) -> None:
    """Make a package's RECORD true: without the removed files, and with the hashes of those that were cut.

    Source: the specification "Recording installed projects" of packaging.python.org.
    """
    packages = record.parents[1]
    with record.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    kept = []
    for name, digest, size in rows:
        path = packages / name
        if path.is_file():
            kept.append([name, *(_describe(path) if digest else (digest, size))])
    with record.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(kept)


def _describe(path: Path) -> tuple[str, int]:
    """Return a file's hash and size as RECORD has them."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    return f"sha256={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}", path.stat().st_size


def main() -> int:
    """Make the environment lean and return the exit code."""
    environment, *variant = sys.argv[1:]
    (packages,) = Path(environment).glob("lib/python3*/site-packages")
    for folder in find_unneeded(packages, variant="".join(variant)):
        remove_folder(folder)
    for library in packages.glob(UNSERVED_LIBRARY) if SERVE in variant else ():
        library.unlink()
    for library in sorted(packages.rglob("*.so*")):
        if library.is_file() and not library.is_symlink():
            strip_library(library)
    for record in sorted(packages.glob("*.dist-info/RECORD")):
        mend_record(record)
    # Never checked against the source, which does not change in an image: no look at its time, no writing.
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(packages, quiet=2, workers=0, invalidation_mode=mode)
    return 0


if __name__ == "__main__":
    sys.exit(main())
