"""The engine for everything that only looks forward: ONNX Runtime on the processor's cores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from classifold.machine import count_cores


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
