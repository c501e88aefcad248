"""Makes the image's environment lean: removes what training never opens, and compiles the bytecode.

python lean.py /opt/classifold/venv
"""

from __future__ import annotations

import compileall
import py_compile
import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

# Folders below site-packages: C headers that only building TensorFlow's extensions needs, and tests.
HEADERS = ("tensorflow/include", "tensorflow/xla_aot_runtime_src")
TESTS = ("tests", "onnx/backend/test", "tensorflow/python/compiler/tensorrt/test")
# A symbol table smaller than this stays: what is not touched cannot break.
WORTH_BYTES = 1_000_000
_ELF64_LITTLE = b"\x7fELF\x02\x01"


def find_unneeded(packages: Path) -> Iterator[Path]:
    """Yield the folders that nothing imports when a model is trained or exported."""
    for name in (*HEADERS, *TESTS):
        if (packages / name).is_dir():
            yield packages / name
    # Of packages that are not tests themselves.
    yield from (path for path in sorted(packages.glob("*/**/tests")) if path.is_dir())


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
        if saved < WORTH_BYTES:
            return 0
        file.seek(40)
        file.write(bytes(8))  # there is no table of sections any more
        file.seek(58)
        file.write(bytes(6))  # size and number of its entries, and which of them holds the names
        file.truncate(end)
        return saved


def main() -> int:
    """Make the environment lean and return the exit code."""
    (packages,) = Path(sys.argv[1]).glob("lib/python3*/site-packages")
    for folder in find_unneeded(packages):
        shutil.rmtree(folder, ignore_errors=True)
    for library in sorted(packages.rglob("*.so*")):
        if library.is_file() and not library.is_symlink():
            strip_library(library)
    # Never checked against the source, which does not change in an image: no look at its time, no writing.
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(packages, quiet=2, workers=0, invalidation_mode=mode)
    return 0


if __name__ == "__main__":
    sys.exit(main())
