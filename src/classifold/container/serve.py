"""`serve` in the container: serve the model that SageMaker, or `docker run`, put into /opt/ml/model."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from classifold import names
from classifold.errors import ClassifoldError
from classifold.processes import prepare_process
from classifold.progress import say, use_plain_lines
from classifold.sagemaker.ml_folder import MlFolder
from classifold.serve.options import VARIABLES, ServeOptions, build_options
from classifold.serve.start import serve

# Environment variable that names another folder in place of /opt/ml.
_ML_DIR_VARIABLE = "CLASSIFOLD_ML_DIR"
# Set by SageMaker for a container that must not take port 8080, as on an endpoint with several containers.
_PORT_VARIABLE = "SAGEMAKER_BIND_TO_PORT"


def main() -> int:
    """Serve until SIGTERM, and return the exit code."""
    prepare_process()
    use_plain_lines()
    # Process 1 of a container ignores a signal without a handler; the server sets its own once it runs.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        serve(read_options(os.environ))
    except ClassifoldError as error:
        for line in str(error).split("\n"):
            say(line)
        return error.exit_code
    return 0


def read_options(environment: Mapping[str, str]) -> ServeOptions:
    """Return the options of a server in a container, which listens for every address.

    Args:
        environment: Environment variables, such as `os.environ`.

    Raises:
        UsageError: With everything that is wrong.
    """
    ml = MlFolder(Path(environment.get(_ML_DIR_VARIABLE) or names.ML_DIR))
    defaults = {VARIABLES["host"]: "0.0.0.0"}  # noqa: S104 - only what the container's host lets through
    if port := environment.get(_PORT_VARIABLE):
        defaults[VARIABLES["port"]] = port
    given = {name: value for name, value in environment.items() if value}
    return build_options({"run": ml.model_dir}, {**defaults, **given})


if __name__ == "__main__":
    sys.exit(main())
