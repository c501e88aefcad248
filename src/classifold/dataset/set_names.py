"""Finds the set that a folder's name means: train, Testing, trainset, X_train, seg_test, 训练集."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence

from classifold.names import SET_ALIASES, SETS, TRAINING

# Words that say nothing about the set.
_FILLERS = frozenset(
    """
    set sets data dataset datasets image images img imgs picture pictures pic pics photo photos jpg jpeg png
    split splits subset folder dir files samples sample part x y v my the final new copy kopie copie
    raw original clean cropped resized processed preprocessed aug augmented augmentation small full
    color colour gray grey rgb classification labeled labelled class classes
    """.split()  # noqa: SIM905 - seven lines else
)
# Names of folders beside the sets of a data set that are not classes.
_AUXILIARY = frozenset(
    """
    extra extras annotation annotations label labels mask masks bbox bboxes boxes metadata meta info doc docs
    readme sample samples example examples demo unlabeled unlabelled unlabel unsup unsupervised pred predict
    prediction predictions result results output outputs submission submissions csv json xml txt list lists
     weight weights checkpoint checkpoints log logs script scripts code tmp
    temp backup devkit image images img imgs
    """.split()  # noqa: SIM905 - seven lines else
)


def _fold(text: str) -> str:
    """Return the text in small letters and without accents."""
    text = unicodedata.normalize("NFKD", text.casefold())
    return unicodedata.normalize("NFC", "".join(char for char in text if not unicodedata.combining(char)))


_SET_OF = {_fold(alias): name for name, aliases in SET_ALIASES.items() for alias in aliases}
_ENDINGS = (
    "set sets data dataset images imgs img pics pictures photos split samples dir folder files "
    "集 数据 数据集 數據 資料 データ セット 用 画像 데이터 세트"
)
_GLUED = re.compile(
    "({})({})*".format(
        "|".join(sorted(_SET_OF, key=len, reverse=True)), "|".join(map(_fold, _ENDINGS.split()))
    )
)


def _split_words(name: str) -> list[str]:
    """Return the words of a name, folded; digits, signs and inner capitals separate words."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFKC", name))
    text = re.sub(r"\b(hold|held)[\W_]+out\b", "holdout", _fold(text).replace("_", " "))
    return re.findall(r"[^\W\d_]+", text)


def _read_words(name: str) -> tuple[list[str], tuple[str, ...]]:
    """Return the sets that a name's words mean, and its other words without fillers."""
    sets, others = [], []
    for word in _split_words(name):
        if glued := _GLUED.fullmatch(word):
            sets.append(_SET_OF[glued.group(1)])
        elif word not in _FILLERS:
            others.append(word)
    return sets, tuple(others)


def name_set(name: str) -> str | None:
    """Return the set that a folder's name means by itself, None if it means none."""
    sets, others = _read_words(name)
    return sets[0] if len(sets) == 1 and not others else None


def match_sets(names: Sequence[str]) -> dict[str, str]:
    """Return the set of each folder whose name means one, among neighbours.

    A name means a set by itself (train, Test_set), or because neighbours differ from it only in the set
    (seg_train and seg_test; but neither "train station" beside "bus station", nor "steam train").
    """
    meant = {name: found for name in names if (found := name_set(name))}
    if len(set(meant.values())) > 1:
        return meant
    families = find_families(names)
    return {**meant, **next(iter(families.values()))} if len(families) == 1 else meant


def match_beside_training(names: Sequence[str]) -> dict[str, str]:
    """Return the set of each folder whose name has other words besides one set that is not training.

    Examples are test_stg1 and public_test. This is only valid beside a folder that is certainly the training
    set: a class may be called "test tube".
    """
    meant = {}
    for name in names:
        sets, others = _read_words(name)
        if len(sets) == 1 and others and sets[0] != TRAINING:
            meant[name] = sets[0]
    return meant


def find_families(names: Sequence[str]) -> dict[tuple[str, ...], dict[str, str]]:
    """Return groups of names that differ only in the set, one of them training, by their common words.

    Several groups are several data sets side by side, or classes in folders such as cat_train and cat_test.
    """
    families: dict[tuple[str, ...], dict[str, str]] = {}
    for name in names:
        sets, others = _read_words(name)
        if len(sets) == 1 and others:
            families.setdefault(others, {})[name] = sets[0]
    return {
        others: members
        for others, members in families.items()
        if TRAINING in members.values() and len(set(members.values())) > 1
    }


def is_auxiliary(name: str) -> bool:
    """Return whether a folder of this name is usual beside sets or classes without being one of them."""
    words = _split_words(name)
    return name.startswith("_") or (bool(words) and all(word in _AUXILIARY for word in words))


def is_filler(name: str) -> bool:
    """Return whether a folder's name only says that there are pictures in it."""
    words = _split_words(name)
    return bool(words) and all(word in _FILLERS for word in words)


def list_sets(found: Collection[str]) -> list[str]:
    """Return sets in the order of `SETS`."""
    return [name for name in SETS if name in found]
