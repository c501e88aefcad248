"""Classifold: a folder of pictures becomes a trained, measured, explained and served image classifier.

    import classifold

    run = classifold.train("photos")
    run.accuracy
    run.open_report()
    model = run.load()
    model.predict("photo.jpg").label

Only the names in `classifold.__all__` are public: what they do changes only with a word in CHANGELOG.md.
Everything else, such as the modules of this package, may change at any time. `import classifold` is quick:
what a name needs is imported when the name is first used.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from classifold.api.comparing import compare as compare
    from classifold.api.config import Config as Config
    from classifold.api.explanation import Explanation as Explanation
    from classifold.api.model import Model as Model
    from classifold.api.model import load as load
    from classifold.api.model import load_picture as load_picture
    from classifold.api.prediction import Prediction as Prediction
    from classifold.api.run import Run as Run
    from classifold.api.steps import Check as Check
    from classifold.api.steps import Split as Split
    from classifold.api.steps import check as check
    from classifold.api.steps import split as split
    from classifold.api.steps import train as train
    from classifold.comparison.result import Comparison as Comparison
    from classifold.errors import ClassifoldError as ClassifoldError

__version__ = "0.1.0"

# Set before any of these libraries is imported, and inherited by child processes. Otherwise ONNX Runtime
# (from 1.29 on) writes an identifier of the machine below the home folder and sends events to a server; its
# function that turns this off can only be called too late. The other two are for KerasHub's downloads.
os.environ.update(ORT_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_TELEMETRY="1", DO_NOT_TRACK="1")

# The module that defines each public name. This package is the face of rooms above it, so it imports them
# only when a name is asked for (PEP 562): `classifold --help` needs none of them.
_PLACES = {
    "Check": "classifold.api.steps",
    "ClassifoldError": "classifold.errors",
    "Comparison": "classifold.comparison.result",
    "Config": "classifold.api.config",
    "Explanation": "classifold.api.explanation",
    "Model": "classifold.api.model",
    "Prediction": "classifold.api.prediction",
    "Run": "classifold.api.run",
    "Split": "classifold.api.steps",
    "check": "classifold.api.steps",
    "compare": "classifold.api.comparing",
    "load": "classifold.api.model",
    "load_picture": "classifold.api.model",
    "split": "classifold.api.steps",
    "train": "classifold.api.steps",
}
# Written out, since type checkers and editors read this list and do not run it.
__all__ = [
    "Check",
    "ClassifoldError",
    "Comparison",
    "Config",
    "Explanation",
    "Model",
    "Prediction",
    "Run",
    "Split",
    "__version__",
    "check",
    "compare",
    "load",
    "load_picture",
    "split",
    "train",
]


if not TYPE_CHECKING:  # a checker would take every misspelt name for one that this function finds

    def __getattr__(name: str) -> Any:
        if name not in _PLACES:
            raise AttributeError(f"module 'classifold' has no attribute {name!r}")
        import importlib

        value = getattr(importlib.import_module(_PLACES[name]), name)
        globals()[name] = value  # asked for once
        return value


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
