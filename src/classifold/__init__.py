"""Classifold: a folder of pictures becomes a trained, measured, explained and served image classifier."""

import os

__version__ = "0.1.0"

# Set before any of these libraries is imported, and inherited by child processes. Otherwise ONNX Runtime
# (from 1.29 on) writes an identifier of the machine below the home folder and sends events to a server; its
# function that turns this off can only be called too late. The other two are for KerasHub's downloads.
os.environ.update(ORT_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_TELEMETRY="1", DO_NOT_TRACK="1")
