"""Recognizes by its name what systems and programs leave behind beside a user's pictures."""

from __future__ import annotations

import re

# In lower case; besides these, everything that starts with a dot is hidden.
_NAMES = frozenset(
    # Windows
    {"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin", "recycler"}
    | {"system volume information", "$windows.~bt", "$windows.~ws", "config.msi", "msdownld.tmp"}
    # macOS
    | {"icon\r", "__macosx", "network trash folder", "temporary items", "thevolumesettingsfolder"}
    # Linux and Python
    | {"lost+found", "__pycache__"}
    # Synology, QNAP, Asustor, Buffalo, NetApp and Samba
    | {"@eadir", "@tmp", "@sharebin", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@transcode"}
    | {"@snapshot", "@snapshots", "~snapshot", "~snapshots", "network recycle bin", "network recycle bin 1"}
    # Nextcloud and ownCloud, GoodSync
    | {"files_trashbin", "files_versions", "files_external", "_gsdata_"}
)
# Lightroom's previews; the libraries of Photos, iPhoto and Aperture; Windows' metadata on a NAS.
_ENDINGS = (
    *(".lrdata", ".lrcat-data", ".photoslibrary", ".photolibrary", ".migratedphotolibrary", ".aplibrary"),
    *(":encryptable", ":zone.identifier"),
)
# Syncthing's unfinished files; FOUND.000 of chkdsk; Nextcloud's appdata_<instance>.
_BEGINNINGS = ("~syncthing~", "found.", "appdata_oc")
_NUMBERED = re.compile(r"~syncthing~.*|found\.[0-9]{3}|appdata_oc[a-z0-9]+", re.DOTALL)
# Small copies of the pictures beside them. At the top level such a folder can be a class of gestures.
_SMALL_COPIES = frozenset({"thumb", "thumbs", "thumbnail", "thumbnails", "_thumb", "_thumbs", "_thumbnails"})

HIDDEN, SYSTEM = "hidden", "left by the system"


def reason_to_pass_over(name: str) -> str:
    """Return why a file or folder of this name is skipped, "" for any other name."""
    if name.startswith("."):
        return HIDDEN
    folded = name.lower()
    if folded in _NAMES or folded.endswith(_ENDINGS):
        return SYSTEM
    # This runs for every file, so the slow pattern is only tried where it can match.
    return SYSTEM if folded.startswith(_BEGINNINGS) and _NUMBERED.fullmatch(folded) else ""


def holds_small_copies(name: str) -> bool:
    """Return whether a folder of this name inside a class holds small copies of the class's pictures."""
    return name.lower() in _SMALL_COPIES
