"""LitServe with model.onnx, batching on as its documentation has it.

    PYTHON serve_litserve.py RUN PORT [MAX_BATCH_SIZE]

`decode_request` reads the uploaded file and `predict` is given a batch, as in
https://lightning.ai/docs/litserve/features/batching; a batch waits for 10 ms at most. One worker, whose ONNX
Runtime has its default of a thread for each core. The picture is decoded by our own decoder, so that all
servers compared have the same pixels and the same work.
"""

import sys
from pathlib import Path
from typing import Any

import litserve
import numpy as np
import onnxruntime
from fastapi import Request

from classifold.pictures.decode import load_picture


class Classifier(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's
        self.session = onnxruntime.InferenceSession(
            Path(sys.argv[1]) / "model.onnx", providers=["CPUExecutionProvider"]
        )
        self.size = self.session.get_inputs()[0].shape[1]

    # LitServe reads the annotation, and this one must be the class itself.
    def decode_request(self, request: Request) -> Any:
        return load_picture(request["picture"].file.read(), size=self.size, max_pixels=10**8)

    def batch(self, inputs: list[Any]) -> Any:
        return np.stack(inputs).astype(np.float32)

    def predict(self, pixels: Any) -> Any:
        return self.session.run(["probabilities"], {"pixels": pixels})[0]

    def unbatch(self, output: Any) -> list[Any]:
        return list(output)

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"probabilities": output.tolist()}


if __name__ == "__main__":
    batch_size = int(sys.argv[3]) if len(sys.argv) > 3 else 8
    server = litserve.LitServer(Classifier(max_batch_size=batch_size, batch_timeout=0.01), accelerator="cpu")
    server.run(port=int(sys.argv[2]), log_level="warning", generate_client_file=False)
