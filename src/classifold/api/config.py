"""Settings made in a Python program: `Config(EPOCHS=5)`, checked like those of a settings file."""

from __future__ import annotations

from typing import Any

from classifold.settings import config as settings
from classifold.settings.loader import build_config


class Config(settings.Config):
    """The settings of a project: the defaults, changed by keyword arguments; docs/settings.md lists them.

    It is immutable. `check`, `split` and `train` take it as `config=`; their keyword arguments override it.

    Raises:
        ClassifoldError: A setting does not exist, or its value is not accepted; names every mistake.

    Example:
        >>> import classifold
        >>> config = classifold.Config(EPOCHS=5, BACKBONE="MobileNetV2")
        >>> config.EPOCHS
        5
        >>> classifold.Config(EPOCH=5)
        Traceback (most recent call last):
        classifold.errors.SettingsError: error: setting EPOCH (settings): this setting does not exist
        hint: did you mean EPOCHS?
    """

    # Without this, type checkers would take every setting for a required argument.
    def __init__(self, **values: Any) -> None:
        # Reports each mistake in our own words, and applies recipes and the rules between settings.
        checked = build_config(values)
        super().__init__(**checked.model_dump(exclude_unset=True))
