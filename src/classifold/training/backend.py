"""The one place that chooses Keras's engine and its precision, starts it quietly and seeds all randomness."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from classifold.errors import Fault, MissingExtraError, SettingsError, UsageError
from classifold.locks import let_hdf5_do_without_locks
from classifold.machine import list_gpus
from classifold.names import install
from classifold.progress import saying_through, show_progress
from classifold.settings.baked import find_keras_home, open_keras_home
from classifold.settings.config import Config
from classifold.training.hosts import HostInfo, join_hosts
from classifold.training.interruption import holding_back

# Keras's engines as they are called, by the name of their package.
ENGINES = {"tensorflow": "TensorFlow", "jax": "JAX"}
_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
# NVIDIA GPUs compute in bfloat16 from this compute capability on (Ampere).
_BFLOAT16_SINCE = 8.0


def choose_backend(config: Config, *, num_hosts: int = 1) -> str:
    """Return "tensorflow" or "jax": what the settings say, else JAX where it has a GPU, else TensorFlow.

    Several hosts train on JAX.

    Raises:
        SettingsError: If the settings want several hosts to train on TensorFlow.
    """
    if num_hosts > 1:
        if config.BACKEND == "tensorflow":
            what = "several hosts train together on JAX only"
            hint = "set BACKEND = 'auto'"
            raise SettingsError(Fault("setting BACKEND", what, got="'tensorflow'", hint=hint))
        return "jax"
    if config.BACKEND != "auto":
        return config.BACKEND
    has_gpu = Path("/dev/nvidia0").exists() and importlib.util.find_spec("jax_cuda12_plugin") is not None
    has_tensorflow, has_jax = (importlib.util.find_spec(name) is not None for name in ("tensorflow", "jax"))
    return "jax" if has_gpu or (has_jax and not has_tensorflow) else "tensorflow"


def check_engine(backend: str) -> None:
    """Refuse to start where Keras or its engine is not installed.

    Raises:
        MissingExtraError: With what to install.
    """
    missing = [name for name in ("keras", backend) if importlib.util.find_spec(name) is None]
    if missing:
        extras = "train,hosts" if "jax" in missing else "train"
        what = f"it needs packages that are not installed: {', '.join(missing)}"
        raise MissingExtraError(Fault("training", what, hint=install(extras)))


def start_keras(backend: str, *, seed: int, this_host: HostInfo | None = None) -> Any:
    """Import Keras on `backend`, seed it, and return the module.

    Calling it again with the same backend resets the seeds and the names of layers.

    Args:
        backend: "tensorflow" or "jax".
        seed: Every random number of Keras, Python and NumPy's old generator follows from it.
        this_host: This host among those that train together; None: it is alone.

    Raises:
        MissingExtraError: If Keras or its engine is not installed.
        UsageError: If Keras already runs on another engine in this process.
        HostError: If the hosts do not meet.
    """
    os.environ["KERAS_BACKEND"] = backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    open_keras_home()
    let_hdf5_do_without_locks()
    if not Path("/dev/nvidia0").exists():
        # Without this TensorFlow looks for a GPU, and complains that there is none.
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    check_engine(backend)
    if this_host is not None and this_host.count > 1:
        join_hosts(this_host)
    is_first = "keras" not in sys.modules
    with (
        quiet_start(),
        show_progress(f"starting {ENGINES[backend]}", None, is_told=True),
        without_keras_settings(),
        without_unused_packages(),
    ):
        import keras

        if backend == "jax":
            # Keras saves models with TensorFlow's help: its greeting belongs here, not between the epochs.
            with contextlib.suppress(ImportError):
                importlib.import_module("tensorflow")

        # The engine looks for its devices at the first operation, and talks about them too.
        keras.ops.zeros(1)
    if is_first:
        _keep_downloads()
    if keras.backend.backend() != backend:
        what = f"Keras already runs on {keras.backend.backend()} in this process, not on {backend}"
        raise UsageError(Fault("training", what, hint="start a new process for the other backend"))
    # Layers are named by counting; from one in every run, so that its weights are found again by name.
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(seed)
    if backend == "tensorflow":
        import tensorflow as tf

        # The same weights from two runs: no kernel may add its sums in the order that threads finish.
        tf.config.experimental.enable_op_determinism()
    return keras


@contextlib.contextmanager
def without_keras_settings() -> Iterator[None]:
    """Let Keras, tf_keras and TensorFlow neither read nor write the user's settings of Keras when imported.

    `keras.json` in the home folder or KERAS_HOME may ask for another precision or order of the channels than
    training is made for, and is written where it is missing.
    """
    given = os.environ.get("KERAS_HOME")
    with tempfile.TemporaryDirectory(prefix="classifold-keras-") as empty:
        os.environ["KERAS_HOME"] = empty
        try:
            yield
        finally:
            del os.environ["KERAS_HOME"]
            if given is not None:
                os.environ["KERAS_HOME"] = given


@contextlib.contextmanager
def without_unused_packages() -> Iterator[None]:
    """Let Keras and TensorFlow take scikit-learn and JAX for absent while they are imported.

    Keras imports scikit-learn for its wrappers, and TensorFlow Lite imports JAX for a converter; training
    uses neither. Without them `import tensorflow` takes 3.3 instead of 4.9 seconds of processor time, and a
    run imports it in two processes. What is imported already stays.
    """
    hidden = [name for name in ("sklearn", "jax") if name not in sys.modules]
    if os.environ.get("KERAS_BACKEND") == "jax":
        hidden = [name for name in hidden if name != "jax"]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # importing it then raises ImportError
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


def _keep_downloads() -> None:
    """Let Keras keep downloaded weights where it always does, which it takes for the folder of its settings.

    It has no public way to set that folder once it is imported.
    """
    from keras.src.backend import config

    config._KERAS_DIR = str(find_keras_home())


@contextlib.contextmanager
def quiet_start() -> Iterator[None]:
    """Keep what TensorFlow's C++ prints while it is imported off standard error, unless the import fails."""
    sys.stderr.flush()
    kept = os.dup(2)
    # An interruption in the middle of an import is lost in C++; held back, it comes right afterwards.
    with holding_back(), tempfile.TemporaryFile() as log, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.dup2(log.fileno(), 2)
        try:
            with _showing_progress_on(kept):
                yield
        except BaseException:
            os.dup2(kept, 2)
            log.seek(0)
            os.write(2, log.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


@contextlib.contextmanager
def _showing_progress_on(number: int) -> Iterator[None]:
    """Show progress on another file, which is where standard error goes otherwise.

    In a notebook, and where a test reads it, standard error is not file 2: then it is left as it is.
    """
    try:
        is_turned_away = sys.stderr.fileno() == 2
    except (OSError, ValueError, AttributeError):
        is_turned_away = False
    if not is_turned_away:
        yield
        return
    copy, kind = os.dup(number), sys.stderr
    aside = os.fdopen(copy, "w", encoding=kind.encoding, errors=kind.errors)
    with aside, saying_through(aside):
        yield


def choose_policy(config: Config, backend: str) -> str:
    """Return Keras's dtype policy for training; call it once the engine can be asked about its devices.

    Processors get float32: half precision is slower there, since few of their kernels know it.
    """
    if config.PRECISION != "auto":
        return _POLICIES[config.PRECISION]
    if not list_gpus():
        return "float32"
    return "mixed_bfloat16" if _find_capability(backend) >= _BFLOAT16_SINCE else "mixed_float16"


def _find_capability(backend: str) -> float:
    """Return the compute capability of the GPU that the engine uses; 0 where it uses none."""
    if backend == "jax":
        import jax

        return float(getattr(jax.devices()[0], "compute_capability", 0) or 0)
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    details = tf.config.experimental.get_device_details(gpus[0]) if gpus else {}
    major, minor = details.get("compute_capability", (0, 0))
    return float(f"{major}.{minor}")


def in_single_precision(model: Any) -> Any:
    """Return the model itself, or where its layers compute in half precision one that does not.

    The weights are single precision all along: only what passes between the layers is halved.
    """
    import keras

    if all(layer.compute_dtype in ("float32", None) for layer in model._flatten_layers()):
        return model
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        exact = type(model).from_config(_without_policies(model.get_config()))
    finally:
        keras.config.set_dtype_policy(policy)
    exact.set_weights(model.get_weights())
    return exact


def _without_policies(config: Any) -> Any:
    """Return a configuration, at any depth, with single precision wherever it names a policy."""
    if isinstance(config, dict):
        return {
            name: "float32" if name == "dtype" else _without_policies(value) for name, value in config.items()
        }
    if isinstance(config, list | tuple):
        return type(config)(_without_policies(value) for value in config)
    return config
