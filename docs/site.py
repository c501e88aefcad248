"""What the site adds to MkDocs: pages outside docs/, and links that work here as on the git host.

mkdocs.yml names this file as a hook. No text is copied: README.md itself is the first page.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
# Pages outside docs/, and their names in the site.
OUTSIDE = {
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
}
BRANCH = "main"
# A block of code, a line of code, or a link's target: of these only the last one is changed.
PARTS = re.compile(
    r"(?P<code>^(?P<fence>```+|~~~+).*?^(?P=fence)|`[^`\n]+`)"
    r"|(?P<before>\]\(|\b(?:src|href)=\")(?P<path>[^)\s\"#:]+)(?P<anchor>#[^)\s\"]*)?(?=[)\s\"])",
    re.MULTILINE | re.DOTALL,
)


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages that lie outside docs/, as they are."""
    for name, page in OUTSIDE.items():
        if (ROOT / name).exists():
            files.append(File.generated(config, page, content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Return the page's text with its links as the site needs them."""
    name = page.file.src_uri
    source = next((one for one, made in OUTSIDE.items() if made == name), f"docs/{name}")
    return convert_links(markdown, source=source, repository=config.extra["repository"])


def convert_links(markdown: str, *, source: str, repository: str) -> str:
    """Return a page's text with each link to a file of this repository as the site needs it.

    Args:
        markdown: The page's text.
        source: The page's path below the root of the repository.
        repository: Address of the repository, where files that are not in the site can be seen.
    """

    def convert(found: re.Match[str]) -> str:
        if found["code"]:
            return found["code"]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), found["path"]))
        return f"{found['before']}{_find_place(target, found['path'], repository)}{found['anchor'] or ''}"

    return PARTS.sub(convert, markdown)


def _find_place(target: str, written: str, repository: str) -> str:
    """Return a file's path in the site; `written` if it has none, which MkDocs then reports."""
    if target in OUTSIDE:
        return OUTSIDE[target]
    path = ROOT / target
    if target.startswith("docs/") and path.is_file() and path.suffix != ".py":
        return target.removeprefix("docs/")
    if path.exists():
        return f"{repository}/{'tree' if path.is_dir() else 'blob'}/{BRANCH}/{target}"
    return written
