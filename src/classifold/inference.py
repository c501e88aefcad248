"""The engine for everything that only looks forward: ONNX Runtime on the processor's cores."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifold.machine import count_cores, limited_memory, memory_bytes
from classifold.model_file import check_model

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ROOM = 4 << 30


def open_session(model: Path | bytes) -> Any:
    """Return an ONNX Runtime session that computes in the thread that asks it, and in no other.

    So as many threads as there are cores ask it, each for one picture: none waits for another after every
    layer, and a picture's activations stay in its core's cache. On two cores this is a third faster than one
    call over all cores for 16 pictures, gives the same bits, and leaves no core idle while pictures are read.

    This is the one door to a model: what could make the engine read other files is refused before it.

    Args:
        model: A file, or the bytes of one.

    Raises:
        ModelFileError: Its weights are to be read from other files, or it is no ONNX model.
        OSError: The file cannot be read.
        Exception: ONNX Runtime's own, which have no common base, for what is no model or cannot be run.
    """
    with model.open("rb") if isinstance(model, Path) else io.BytesIO(model) as file:
        check_model(file)

    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # faults are raised and told in our words
    # Else it goes by the file's name and first bytes, and reads a format that was not looked through.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    source = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


@contextlib.contextmanager
def limited_model(path: Path) -> Iterator[None]:
    """Bound the memory that a model from elsewhere can take in the block, where it is opened and tried.

    A few bytes of ONNX can ask for terabytes. A network at work takes its weights and some hundred MB.
    """
    with limited_memory(min(memory_bytes(), _ROOM + 4 * path.stat().st_size)):
        yield


def run_session(
    session: Any, pixels: NDArray[np.uint8] | NDArray[np.float32], *, output: str | None = None
) -> NDArray[np.float32]:
    """Return what a model says of pictures: one in this thread, several on all cores.

    Args:
        session: Session of a model with one input.
        pixels: (N, size, size, 3), at least one picture.
        output: The output's name; None takes the first.

    Returns:
        (N, ...) float32; what is said of a picture does not depend on the others.
    """
    import numpy as np

    name, wanted = session.get_inputs()[0].name, None if output is None else [output]

    def ask(index: int) -> NDArray[np.float32]:
        picture = pixels[index : index + 1].astype(np.float32, copy=False)
        answer: NDArray[np.float32] = session.run(wanted, {name: picture})[0]
        return answer

    return ask(0) if len(pixels) == 1 else np.concatenate(list(_threads().map(ask, range(len(pixels)))))


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count_cores(), thread_name_prefix="inference")
