"""BentoML with model.onnx, adaptive batching on as its documentation has it.

    RUN=RUN PYTHON -m bentoml serve serve_bentoml:Classifier --port PORT

One batchable endpoint, https://docs.bentoml.com/en/latest/get-started/adaptive-batching.html, with a limit of
60 ms, and one worker, the default; its ONNX Runtime has its default of a thread for each core. The picture
is decoded by our own decoder, so that all servers compared have the same pixels and the same work.
"""

from __future__ import annotations

import os
from pathlib import Path

import bentoml
import numpy as np
import onnxruntime

from classifold.pictures.decode import load_picture


@bentoml.service(metrics={"enabled": False})
class Classifier:
    def __init__(self) -> None:
        self.session = onnxruntime.InferenceSession(
            Path(os.environ["RUN"]) / "model.onnx", providers=["CPUExecutionProvider"]
        )
        self.size = self.session.get_inputs()[0].shape[1]

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=60_000)
    def predict(self, picture: list[Path]) -> list[list[float]]:
        pixels = np.stack([load_picture(one, size=self.size, max_pixels=10**8) for one in picture])
        answers = self.session.run(["probabilities"], {"pixels": pixels.astype(np.float32)})[0]
        return answers.tolist()
