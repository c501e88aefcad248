"""A server as one writes it by hand: FastAPI, and Keras with model.keras.

    PYTHON serve_fastapi.py RUN PORT

An endpoint without `async`, so that FastAPI runs it in its threads, with an uploaded file, both as its
documentation has it (https://fastapi.tiangolo.com/tutorial/request-files/). Of Keras's three ways to ask a
model for a few pictures, `predict_on_batch` was the fastest here, before `model(x)` and `model.predict`. The
picture is decoded by our own decoder, so that all servers compared have the same pixels and the same work.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import uvicorn
from fastapi import FastAPI, UploadFile

from classifold.pictures.decode import load_picture

model = keras.models.load_model(Path(sys.argv[1]) / "model.keras", compile=False)
size = model.inputs[0].shape[1]
model.predict_on_batch(np.zeros((1, size, size, 3), np.float32))
app = FastAPI()


@app.post("/predict")
def predict(picture: UploadFile) -> dict[str, Any]:
    pixels = load_picture(picture.file.read(), size=size, max_pixels=10**8)
    answer = model.predict_on_batch(pixels[None].astype(np.float32))
    return {"probabilities": np.asarray(answer)[0].tolist()}


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")
