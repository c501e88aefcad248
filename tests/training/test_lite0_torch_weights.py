"""Old-style PyTorch files: their tensors come out, and nothing else that such a file could hold is run."""

from __future__ import annotations

import os
import pickle
import struct
import sys
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from classifold.training.lite0 import load_torch_weights

MAGIC = 0x1950A86A20F9469CFC6C
TYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}


class Ref:
    """What is pickled as a reference to a storage."""

    def __init__(self, pid: object) -> None:
        self.pid = pid


class Call:
    """What is pickled as a call of a function that the reader looks up by name."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.parts = (function, arguments)

    def __reduce__(self) -> Any:
        return self.parts


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Just the names that a pickle written by PyTorch speaks of, while it is being written."""
    module, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    storages = {name: type(name, (), {"__module__": "torch"}) for name in (*TYPES, "HalfStorage")}
    vars(module).update(storages)

    def _rebuild_tensor_v2() -> None: ...

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    monkeypatch.setitem(sys.modules, "torch", module)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return types.SimpleNamespace(rebuild=_rebuild_tensor_v2, **storages)


def dump(value: object) -> bytes:
    import io

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: object) -> object:
            return obj.pid if isinstance(obj, Ref) else None

    stream = io.BytesIO()
    Pickler(stream, 2).dump(value)
    return stream.getvalue()


def write(
    path: Path,
    state: object,
    storages: dict[str, np.ndarray],
    *,
    magic: object = MAGIC,
) -> Path:
    """Write the file as `torch.save` did before 1.6."""
    parts = [dump(one) for one in (magic, 1001, {"little_endian": True}, state, list(storages))]
    for values in storages.values():
        parts += [struct.pack("<q", values.size), values.tobytes()]
    path.write_bytes(b"".join(parts))
    return path


def tensor(torch: Any, key: str, size: int, *, shape: tuple[int, ...], **parts: Any) -> Call:
    kind = getattr(torch, parts.get("kind", "FloatStorage"))
    strides = parts.get("strides") or tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
    ref = Ref(("storage", kind, key, "cpu", size, None))
    return Call(torch.rebuild, ref, parts.get("offset", 0), shape, strides, False, OrderedDict())


FLOATS = np.arange(12, dtype="<f4") / 7


def test_tensors_come_out_as_they_were_saved(torch, tmp_path: Path):
    state = OrderedDict(
        kernel=tensor(torch, "7", 12, shape=(2, 3, 2)),
        turned=tensor(torch, "7", 12, shape=(3, 4), strides=(1, 3)),
        part=tensor(torch, "7", 12, shape=(3,), offset=5),
        count=tensor(torch, "8", 1, shape=(), kind="LongStorage"),
    )
    path = write(tmp_path / "w.pth", state, {"7": FLOATS, "8": np.array([41], "<i8")})
    loaded = load_torch_weights(path)
    np.testing.assert_array_equal(loaded["kernel"], FLOATS.reshape(2, 3, 2))
    np.testing.assert_array_equal(loaded["turned"], FLOATS.reshape(4, 3).T)
    np.testing.assert_array_equal(loaded["part"], FLOATS[5:8])
    assert loaded["count"] == 41
    assert loaded["count"].dtype == np.int64
    assert list(loaded) == ["kernel", "turned", "part", "count"]


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (os.system, ("touch {trace}",)),
        (eval, ("open({trace!r}, 'w')",)),
        (exec, ("open({trace!r}, 'w')",)),
        (getattr, (os, "getcwd")),
        (Path, ("/",)),
        (np.zeros, (3,)),
        (pickle.loads, (b"N.",)),
        (type, ("X", (), {})),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
@pytest.mark.parametrize("place", ["magic", "value", "name", "storage", "nested"])
def test_a_call_hidden_anywhere_in_the_file_is_refused_and_never_made(
    function, arguments, place, torch, tmp_path: Path
):
    trace = tmp_path / "trace"
    filled = tuple(one.format(trace=str(trace)) if isinstance(one, str) else one for one in arguments)
    if function is getattr:
        filled = ("x", "upper")
    call = Call(function, *filled)
    good = tensor(torch, "7", 12, shape=(12,))
    hidden = Ref(("storage", call, "7", "cpu", 12, None))
    state: Any = {
        "magic": good,
        "value": {"kernel": call},
        "name": [(call, good)],
        "storage": {"kernel": Call(torch.rebuild, hidden, 0, (1,), (1,))},
        "nested": {"kernel": good, "more": [{"deeper": (call,)}]},
    }[place]
    path = write(tmp_path / "w.pth", state, {"7": FLOATS}, magic=call if place == "magic" else MAGIC)
    with pytest.raises(pickle.UnpicklingError):
        load_torch_weights(path)
    assert not trace.exists()


def test_names_that_only_look_like_the_allowed_ones_are_refused(torch, tmp_path: Path):
    for line in (b"ctorch\nHalfStorage\n.", b"ctorch\nFloatStorage.newbyteorder\n.", b"ctorch._utils\nos\n."):
        path = tmp_path / "w.pth"
        path.write_bytes(line)
        with pytest.raises(pickle.UnpicklingError, match="not allowed"):
            load_torch_weights(path)


@pytest.mark.parametrize(
    "parts",
    [
        {"shape": (13,)},
        {"shape": (4,), "offset": 9},
        {"shape": (4,), "offset": -1},
        {"shape": (4,), "strides": (-1,)},
        {"shape": (2, 3), "strides": (1,)},
        {"shape": (10**6, 10**6), "strides": (0, 0)},
        {"shape": (-4,)},
        {"shape": ("four",), "strides": (1,)},
        {"shape": None, "strides": (1,)},
        {"shape": (1,), "offset": 0.5},
    ],
    ids=str,
)
def test_a_tensor_that_reaches_beyond_its_storage_is_refused(parts, torch, tmp_path: Path):
    shape = parts.pop("shape")
    if shape is None:
        parts["strides"] = (1,)
        call = Call(torch.rebuild, Ref(("storage", torch.FloatStorage, "7", "cpu", 12, None)), 0, None, (1,))
    else:
        parts.setdefault("strides", tuple(1 for _ in shape))
        call = tensor(torch, "7", 12, shape=shape, **parts)
    path = write(tmp_path / "w.pth", {"kernel": call}, {"7": FLOATS})
    with pytest.raises(pickle.UnpicklingError):
        load_torch_weights(path)


@pytest.mark.parametrize(
    "pid",
    [
        ("storage",),
        ("module", None, "7", "cpu", 12, None),
        ("storage", "float", "7", "cpu", 12, None),
        "storage",
        7,
        ("storage", OrderedDict, "7", "cpu", 12, None),
    ],
    ids=str,
)
def test_a_reference_to_anything_but_a_storage_is_refused(pid, torch, tmp_path: Path):
    state = {"kernel": Call(torch.rebuild, Ref(pid), 0, (1,), (1,))}
    with pytest.raises(pickle.UnpicklingError):
        load_torch_weights(write(tmp_path / "w.pth", state, {"7": FLOATS}))


@pytest.mark.parametrize(
    "state",
    [{"kernel": 1}, {"kernel": None}, 5, None, ["kernel"]],
    ids=str,
)
def test_a_state_that_holds_no_tensors_is_refused(state, torch, tmp_path: Path):
    with pytest.raises(pickle.UnpicklingError):
        load_torch_weights(write(tmp_path / "w.pth", state, {}))


def test_a_storage_of_another_size_or_that_is_missing_is_refused(torch, tmp_path: Path):
    state = {"kernel": tensor(torch, "7", 12, shape=(12,))}
    for storages in ({"7": FLOATS[:5]}, {}, {"9": FLOATS}):
        with pytest.raises(pickle.UnpicklingError):
            load_torch_weights(write(tmp_path / "w.pth", state, storages))


@pytest.fixture
def good_file(torch, tmp_path: Path) -> bytes:
    state = {"kernel": tensor(torch, "7", 12, shape=(12,)), "bias": tensor(torch, "8", 2, shape=(2,))}
    return write(tmp_path / "good.pth", state, {"7": FLOATS, "8": FLOATS[:2]}).read_bytes()


def test_a_file_cut_short_anywhere_is_refused(good_file: bytes, tmp_path: Path):
    path = tmp_path / "short.pth"
    for length in range(len(good_file)):
        path.write_bytes(good_file[:length])
        with pytest.raises(pickle.UnpicklingError):
            load_torch_weights(path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10_000), value=st.integers(0, 255))
def test_a_file_with_any_byte_changed_gives_arrays_or_is_refused(good_file, tmp_path: Path, place, value):
    changed = bytearray(good_file)
    changed[place % len(changed)] = value
    path = tmp_path / "changed.pth"
    path.write_bytes(changed)
    try:
        loaded = load_torch_weights(path)
    except pickle.UnpicklingError:
        return
    assert all(isinstance(array, np.ndarray) for array in loaded.values())


def test_a_zip_as_newer_pytorch_writes_is_refused(tmp_path: Path):
    (tmp_path / "new.pth").write_bytes(b"PK\x03\x04" + b"\0" * 100)
    with pytest.raises(pickle.UnpicklingError):
        load_torch_weights(tmp_path / "new.pth")


def test_a_file_that_is_not_there_is_the_systems_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        load_torch_weights(tmp_path / "none.pth")
