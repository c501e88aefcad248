"""The settings as a Python program makes them: `Config(EPOCHS=5)`, checked as those of a file are."""

from __future__ import annotations

from typing import Any

from classifold.settings import config as settings
from classifold.settings.loader import build_config


class Config(settings.Config):
    """The settings of a project: the defaults, changed by keyword arguments; docs/settings.md lists them.

    It cannot be changed. `check`, `split` and `train` take it as `config=`, and further settings that
    override it.

    Raises:
        ClassifoldError: A setting does not exist, or its value is not accepted; with all that is wrong.

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
        # Our own message for each mistake, recipes, and what must fit together, as for a settings file.
        checked = build_config(values)
        super().__init__(**checked.model_dump(exclude_unset=True))
