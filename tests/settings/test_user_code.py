"""A file of the user's is run as a module of its own folder, and nothing of that stays."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from classifold.errors import SettingsError
from classifold.settings.loader import load_config


@pytest.fixture
def settings(project: Path) -> Path:
    return project / "container" / "modeling" / "config.py"


def list_names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_settings_file_imports_its_neighbours_and_leaves_no_trace(settings: Path) -> None:
    package = settings.parent / "my_parts"
    package.mkdir()
    (package / "__init__.py").write_text("from my_parts.numbers import EPOCHS\n")
    (package / "numbers.py").write_text("EPOCHS = 7\n")
    (settings.parent / "my_paths.py").write_text('ROOT = "data/pics"\n')
    settings.write_text(
        "from my_paths import ROOT as _ROOT\nimport my_parts\n"
        "DATA_LOCAL_DIR = _ROOT\nEPOCHS = my_parts.EPOCHS\n"
    )
    modules, path, writes = set(sys.modules), list(sys.path), sys.dont_write_bytecode
    config = load_config()
    assert (config.DATA_LOCAL_DIR, config.EPOCHS) == ("data/pics", 7)
    assert not [
        name for name in set(sys.modules) - modules if name.startswith(("my_", "classifold_settings"))
    ]
    assert (sys.path, sys.dont_write_bytecode) == (path, writes)
    assert list_names(settings.parent) == {"config.py", "my_paths.py", "my_parts"}
    assert list_names(package) == {"__init__.py", "numbers.py"}


def test_a_second_settings_file_has_its_own_neighbours(settings: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "config.py"
    other.parent.mkdir()
    for file, epochs in ((settings, 3), (other, 4)):
        file.with_name("my_numbers.py").write_text(f"N = {epochs}\n")
        file.write_text("import my_numbers\nEPOCHS = my_numbers.N\n")
    assert [load_config(file).EPOCHS for file in (settings, other, settings)] == [3, 4, 3]


def test_a_link_to_a_settings_file_finds_the_neighbours_of_its_target(settings: Path, tmp_path: Path) -> None:
    target = tmp_path / "kept" / "config.py"
    target.parent.mkdir()
    target.write_text("import my_numbers\nEPOCHS = my_numbers.N\n")
    target.with_name("my_numbers.py").write_text("N = 5\n")
    settings.unlink()
    settings.symlink_to(target)
    assert load_config().EPOCHS == 5


MODULE_LIKE = {
    "a dataclass": """
from __future__ import annotations
from dataclasses import dataclass
@dataclass
class _Paths:
    root: str = "data/pics"
DATA_LOCAL_DIR = _Paths().root
""",
    "a dataclass whose annotations are types": """
import dataclasses
@dataclasses.dataclass
class _Paths:
    root: str = "data/pics"
assert dataclasses.fields(_Paths)[0].type is str
DATA_LOCAL_DIR = _Paths().root
""",
    "type hints": """
from __future__ import annotations
import typing
class _Paths:
    root: _Root
class _Root: pass
assert typing.get_type_hints(_Paths) == {"root": _Root}
DATA_LOCAL_DIR = "data/pics"
""",
    "pickle": """
import pickle
class _Paths:
    root = "data/pics"
DATA_LOCAL_DIR = pickle.loads(pickle.dumps(_Paths())).root
""",
    "its own place": """
from pathlib import Path as _Path
assert __name__ != "__main__"
DATA_LOCAL_DIR = "data/" + ("pics" if _Path(__file__).name == "config.py" else "wrong")
""",
}


@pytest.mark.parametrize("source", MODULE_LIKE.values(), ids=MODULE_LIKE)
def test_a_settings_file_may_hold_what_a_module_may(source: str, settings: Path) -> None:
    settings.write_text(source)
    assert load_config().DATA_LOCAL_DIR == "data/pics"


@pytest.mark.parametrize("name", ["random", "copy", "calendar", "colorsys", "numpy", "PIL"])
def test_a_neighbour_hides_neither_pythons_modules_nor_installed_packages(name: str, settings: Path) -> None:
    settings.with_name(f"{name}.py").write_text("raise RuntimeError('a neighbour was imported')\n")
    settings.write_text(f"import {name} as _it\nEPOCHS = 3 if 'modeling' not in _it.__file__ else 1\n")
    assert load_config().EPOCHS == 3


def test_a_neighbour_that_fails_is_a_fault_at_the_line_that_imports_it(settings: Path) -> None:
    settings.with_name("my_paths.py").write_text("1 / 0\n")
    settings.write_text("EPOCHS = 3\nimport my_paths\n")
    with pytest.raises(SettingsError) as error:
        load_config()
    assert str(error.value).startswith(
        "error: container/modeling/config.py:2: ZeroDivisionError: division by zero"
    )
    assert "my_paths" not in sys.modules
    assert str(settings.parent) not in sys.path
