"""Locks end with their process; a disk without locks is worked on without them."""

from __future__ import annotations

import errno
import os

import pytest

from classifold.locks import has_record_locks, hold_lock

TRY = """
import os, sys
from pathlib import Path
from classifold.locks import has_record_locks, hold_lock
folder = os.open(sys.argv[1], os.O_RDONLY)
print(hold_lock(folder), hold_lock(folder, is_shared=True), has_record_locks(Path(sys.argv[1], "file")))
"""
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@pytest.mark.parametrize("error", NO_LOCKS, ids=errno.errorcode.get)
def test_a_disk_without_locks_is_found_out(run_python, poor_disk, tmp_path, error):
    done = run_python("-W", "error", "-c", TRY, tmp_path, env=poor_disk(lock_error=error))
    assert (done.out, done.err) == ("False False False\n", "")


def test_a_lock_is_held_by_one_and_shared_by_many(tmp_path):
    first, second = (os.open(tmp_path, os.O_RDONLY) for _ in range(2))
    try:
        assert hold_lock(first, is_shared=True)
        assert hold_lock(second, is_shared=True)
        with pytest.raises(BlockingIOError):
            hold_lock(second)
        os.close(first)
        assert hold_lock(second)
    finally:
        os.close(second)


HOLD = """
import fcntl, sys
with open(sys.argv[1], "ab") as file:
    fcntl.lockf(file, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_that_another_process_holds_is_a_lock(tmp_path):
    import subprocess
    import sys

    path = tmp_path / "file"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        assert has_record_locks(path)
        process.stdin.close()
    assert has_record_locks(path)
