"""The engine for everything that only looks forward: ONNX Runtime on the processor's cores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifold.machine import count_cores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Pictures given to the engine at once: more are not faster, and take memory in proportion.
_BATCH = 16


def open_session(model: Path | bytes) -> Any:
    """Return an ONNX Runtime session over all cores.

    Args:
        model: A file, or the bytes of one.

    Raises:
        Exception: ONNX Runtime's own, which have no common base, for what is no model or cannot be run.
    """
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = count_cores()
    options.inter_op_num_threads = 1
    # Waiting threads must not spin: the cores are needed to decode the next pictures.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # faults are raised and told in our words
    source = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run_session(
    session: Any, pixels: NDArray[np.uint8] | NDArray[np.float32], *, output: str | None = None
) -> NDArray[np.float32]:
    """Return what a model says of pictures, a few of them at a time.

    Args:
        session: Of a model with one input.
        pixels: (N, size, size, 3), at least one picture.
        output: The output's name; None takes the first.

    Returns:
        (N, ...) float32.
    """
    import numpy as np

    name, wanted = session.get_inputs()[0].name, None if output is None else [output]
    batches = [pixels[start : start + _BATCH] for start in range(0, len(pixels), _BATCH)]
    answers = [session.run(wanted, {name: batch.astype(np.float32, copy=False)})[0] for batch in batches]
    return np.concatenate(answers)
