"""Settings made in a Python program: `Config(EPOCHS=5)`, checked like those of a settings file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from classifold.errors import Fault, SettingsError
from classifold.settings import config as settings
from classifold.settings.loader import build_config


class Config(settings.Config):
    """The settings of a project: the defaults, changed by keyword arguments; docs/settings.md lists them.

    It cannot be changed once it is made. `check`, `split` and `train` take it as `config=`; their keyword
    arguments override it.

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

    if not TYPE_CHECKING:  # a checker would not refuse the assignment any more, as it does for a frozen model

        def __setattr__(self, name: str, value: object) -> NoReturn:
            hint = f"make a new one, Config({name}=...), or pass {name}=... together with config="
            raise SettingsError(Fault(f"setting {name}", "a Config cannot be changed", hint=hint))
