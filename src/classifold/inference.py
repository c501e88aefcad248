"""The engine for everything that only looks forward: ONNX Runtime on the processor's cores."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifold.machine import count_cores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def open_session(model: Path | bytes) -> Any:
    """Return an ONNX Runtime session that computes in the thread that asks it, and in no other.

    So as many threads as there are cores ask it, each for one picture: none waits for another after every
    layer, and a picture's activations stay in its core's cache. On two cores this is a third faster than one
    call over all cores for 16 pictures, gives the same bits, and leaves no core idle while pictures are read.

    Args:
        model: A file, or the bytes of one.

    Raises:
        Exception: ONNX Runtime's own, which have no common base, for what is no model or cannot be run.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # faults are raised and told in our words
    source = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run_session(
    session: Any, pixels: NDArray[np.uint8] | NDArray[np.float32], *, output: str | None = None
) -> NDArray[np.float32]:
    """Return what a model says of pictures: one in this thread, several on all cores.

    Args:
        session: Of a model with one input.
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
