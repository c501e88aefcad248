from __future__ import annotations

import ast
import functools
import json
import re
import runpy
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import pytest

from classifold import names
from classifold.archive import MAX_BYTES
from classifold.aws.bucket_rules import OLD_VERSION_DAYS, RULES, UNFINISHED_UPLOAD_DAYS
from classifold.aws.caller_policies import build_daily_policy, build_setup_policy
from classifold.aws.cost import SHORTEST_SECONDS
from classifold.aws.policies import build_boundary, build_policy, build_trust
from classifold.aws.repository import KEPT_IMAGES
from classifold.cli.main import cli, project_manager, split
from classifold.settings.config import HOME_SETTINGS, Config

ROOT = Path(__file__).parents[1]
AWS_PAGE = ROOT / "docs" / "aws.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
PROGRAMS = {"classifold": cli, "data_handler.py": split, "project_manager.py": project_manager}


def commands_in(page: Path) -> Iterator[list[str]]:
    """Yield the words of every command of ours in a page, from its blocks and its lines of code."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:sh|shell|console)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    for line in [*lines, *inline]:
        for part in re.split(r"&&|\||;", line.partition(" #")[0]):
            try:
                words = shlex.split(part)
            except ValueError:
                continue
            if words[:1] == ["python"]:
                words = words[1:]
            if words and words[0] in PROGRAMS:
                yield words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_in_a_page_is_one_that_there_is(page: Path) -> None:
    for words in commands_in(page):
        command: click.Command = PROGRAMS[words[0]]
        rest = words[1:]
        if isinstance(command, click.Group) and rest and not rest[0].startswith(("-", "[", "C")):
            assert rest[0] in command.commands, f"{page.name}: {shlex.join(words)}"
            command = command.commands[rest[0]]
        known = {"--help", "-h", "--version", *(option for param in command.params for option in param.opts)}
        used = {word.partition("=")[0] for word in rest if word.startswith("-") and word != "-"}
        assert used <= known, f"{page.name}: {shlex.join(words)}"


def test_the_readme_shows_every_command_and_both_doors() -> None:
    shown = list(commands_in(ROOT / "README.md"))
    assert {words[1] for words in shown if words[0] == "classifold" and len(words) > 1} >= set(cli.commands)
    doors = {word for words in shown if words[0] == "project_manager.py" for word in words[1:]}
    assert doors >= {"--init_s3_buckets", "--build_and_push_docker_image", "--launch_training"}
    assert ["data_handler.py"] in shown


def test_the_readme_opens_with_a_sentence_and_the_two_scripts() -> None:
    lines = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if line]
    assert lines[0] == "# Classifold"
    assert lines[1].endswith(".")
    opening = "\n".join(lines[:12])
    for script in ("scripts/demo", "scripts/test"):
        assert script in opening
        assert (ROOT / script).stat().st_mode & 0o111


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_in_a_page_is_one_that_there_is(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"--set '?([A-Z_]+)=", text) + re.findall(r"^([A-Z_]{3,}) = ", text, re.MULTILINE)
    assert set(named) - {"NAME"} <= set(Config.model_fields)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_how_to_install_is_said_in_one_page_only() -> None:
    # Until there is a release: when one is made, this is the place to change. README may show it as well.
    said = re.compile(r"pip install [^`\n]*(?:classifold\[|classifold @|-e )")
    pages = [page.name for page in PAGES if said.search(page.read_text(encoding="utf-8"))]
    assert set(pages) - {"README.md", "CHANGELOG.md"} == {"getting-started.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_image_says_in_words_what_it_shows(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"!\[\s*\]\(", text)
    assert all(re.search(r'alt="[^"]+"', one) for one in re.findall(r"<img\b[^>]*>", text))


def test_the_images_of_the_pages_are_small() -> None:
    files = [path for path in (ROOT / "docs").rglob("*") if path.suffix in {".png", ".svg", ".jpg", ".gif"}]
    assert sum(path.stat().st_size for path in files) <= 10**6
    for path in files:
        text = path.read_text(encoding="utf-8") if path.suffix == ".svg" else ""
        addresses = set(re.findall(r"https?://[^\s\"')]+", text)) - {"http://www.w3.org/2000/svg"}
        assert addresses == set(), path.name


@pytest.mark.parametrize(
    "name",
    [
        "container/modeling/config.py",
        "docs/settings.md",
        "docs/commands.md",
        "docs/architecture.md",
        "docs/aws.md",
        "docs/metrics.schema.json",
        "benchmarks/README.md",
    ],
)
def test_a_file_that_follows_from_the_code_is_up_to_date(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == refreshed()[ROOT / name], (
        "run: python docs/refresh.py"
    )


@functools.cache
def refreshed() -> dict[Path, str]:
    """Return what docs/refresh.py would write."""
    files: dict[Path, str] = runpy.run_path(str(ROOT / "docs" / "refresh.py"))["build_files"]()
    return files


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_the_page_of_security_says_which_commands_run_the_settings_file(
    name: str, project: Path, classifold: Callable[..., Any]
) -> None:
    (project / names.CONFIG_FILE).write_text("open('it was run', 'w').close(); raise SystemExit('enough')")
    needed = [one for one in cli.commands[name].params if isinstance(one, click.Argument) and one.required]
    # A file in the place of the folders that some commands take, so that none of them works for long.
    (project / "file").write_text("")
    classifold(name, *(["file"] * len(needed)))
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    (said,) = re.findall(r"`classifold (\w+)` and `classifold (\w+)` run it\s+only where `--config`", page)
    assert (project / "it was run").exists() == (name not in said)


def test_the_readme_warns_of_the_settings_file_and_names_the_page_of_security() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (passage,) = [
        one for one in text.split("\n\n") if one.startswith("`container/modeling/config.py` is Python")
    ]
    assert "(SECURITY.md)" in passage


def json_blocks_in(page: Path) -> list[Any]:
    """Return the content of every block of JSON in a page."""
    text = page.read_text(encoding="utf-8")
    return [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```", text, re.MULTILINE | re.DOTALL)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_json_in_a_page_can_be_pasted(page: Path) -> None:
    assert all(json_blocks_in(page))


def test_the_page_of_aws_shows_the_policies_that_the_code_makes() -> None:
    text = AWS_PAGE.read_text(encoding="utf-8")
    blocks = json_blocks_in(AWS_PAGE)
    plain, whole = runpy.run_path(str(ROOT / "docs" / "refresh.py"))["build_example_scopes"]()
    made = (build_policy, build_boundary, build_setup_policy, build_daily_policy)
    for wanted in (build_trust(plain), *(build(plain) for build in made)):
        assert wanted in blocks
    # What a key and a network add stands in lists of statements, to be pasted among the others.
    shown = [one for block in blocks for one in (block if isinstance(block, list) else block["Statement"])]
    for wanted in (build(whole) for build in made):
        assert [one for one in wanted["Statement"] if one not in shown] == []
    for policy in (build(whole) for build in made):
        rights = {right for one in policy["Statement"] for right in one["Action"]}
        assert [right for right in rights if f"`{right}`" not in text] == []


def test_the_page_of_aws_tells_of_every_setting_that_changes_something_there() -> None:
    text = AWS_PAGE.read_text(encoding="utf-8")
    at_home = re.compile(
        r"DATA_LOCAL_DIR|\w*MANIFEST\w*|RUNS_DIR|PERCENTAGE_\w+|SPLIT_\w+|\w+_CLASSES|CLASS_FOLDER|NEAR_COPIES"
    )
    on_aws = [name for name in HOME_SETTINGS if not at_home.fullmatch(name)]
    assert len(on_aws) > 20
    assert [name for name in on_aws if not re.search(rf"[`<]{name}\b", text)] == []


def test_the_page_of_aws_tells_the_baseline_as_the_code_sets_it() -> None:
    page = AWS_PAGE.read_text(encoding="utf-8")
    text = " ".join(page.split())
    assert f"expire after {OLD_VERSION_DAYS} days" in text
    assert f"removed after {UNFINISHED_UPLOAD_DAYS} days" in text
    assert f"all but the newest {KEPT_IMAGES} training images" in text
    assert f"at most {MAX_BYTES // 10**9} GB" in text
    assert (SHORTEST_SECONDS, names.STOP_SECONDS) == (600, 120)
    assert "ten minutes" in text
    assert "two minutes later SIGKILL" in text
    # A row for each thing that is set on a bucket; the lifecycle's two ends have one each.
    table = page.partition("### Buckets")[2].partition("\n\n")[2].partition("\n\n")[0]
    assert len(table.splitlines()) - 2 == len(RULES) + 1


def texts_of(node: ast.expr) -> list[str]:
    """Return the texts that an expression can be, with … for what is filled in; none for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)]
    if isinstance(node, ast.IfExp):
        return texts_of(node.body) + texts_of(node.orelse)
    return []


def assigned_in(function: ast.FunctionDef) -> dict[str, list[ast.expr]]:
    """Return what is assigned to each name of a function."""
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(function):
        if not isinstance(node, ast.Assign):
            continue
        targets, values = node.targets, [node.value]
        if isinstance(targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple):
            targets, values = targets[0].elts, node.value.elts
        for name, value in zip(targets, values, strict=False):
            if isinstance(name, ast.Name):
                found.setdefault(name.id, []).append(value)
    return found


def messages_in(path: Path) -> Iterator[str]:
    """Yield the message of each Fault that a file makes, where it stands in the same function."""
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(function, ast.FunctionDef):
            continue
        assigned = assigned_in(function)
        for call in ast.walk(function):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") in ("Fault", "_fault"):
                for what in call.args[1:2]:
                    for one in assigned.get(what.id, []) if isinstance(what, ast.Name) else [what]:
                        yield from texts_of(one)


def entries_of_troubleshooting() -> list[str]:
    """Return the messages that the page explains, with … for what is filled in."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`.*?`) \| ", text, re.MULTILINE)
    return [entry for cell in cells for entry in re.findall(r"`([^`]+)`", cell)]


# Messages whose telling words stand in another string, which has its entry.
PUT_TOGETHER = ("…, such as …", ": … the disk of …")


def pattern_of(entry: str) -> re.Pattern[str]:
    parts: Sequence[str] = [re.escape(part.strip()) for part in entry.split("…")]
    return re.compile(".*?".join(parts), re.DOTALL)


def test_every_message_of_an_error_is_on_the_page_of_troubleshooting() -> None:
    patterns = [pattern_of(entry) for entry in entries_of_troubleshooting() if entry != "expected …"]
    source = ROOT / "src" / "classifold"
    missing = {
        f"{path.relative_to(source)}: {message}"
        for path in source.rglob("*.py")
        for message in messages_in(path)
        # What a setting, an option or a field takes is said in its message; all of these have one entry.
        if re.search(r"\w{2}", message) and not message.startswith("expected ")
        if not any(pattern.search(message) for pattern in patterns)
    }
    assert sorted(one for one in missing if not one.endswith(PUT_TOGETHER)) == []


def test_the_page_of_troubleshooting_has_no_message_that_is_gone() -> None:
    texts = {
        text
        for path in (ROOT / "src" / "classifold").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant | ast.JoinedStr)
        for text in texts_of(node)
    }
    entries = entries_of_troubleshooting()
    assert len(entries) > 200
    assert [one for one in entries if not is_said(one, texts)] == []


def is_said(entry: str, texts: set[str]) -> bool:
    """Tell whether a text holds an entry's words in their order; the longest part is looked for first."""
    pattern, part = pattern_of(entry), max((part.strip() for part in entry.split("…")), key=len)
    return any(part in text and pattern.search(text) for text in texts)


@pytest.mark.parametrize(
    "first_words",
    [
        "there are no AWS credentials",
        "the credentials have expired",
        "cannot reach AWS",
        "the permission",
        "this account may use",
        "this setting does not exist",
        "there is no such folder",
        "it has no class folder with pictures",
        "a classifier needs at least two classes",
        "too few pictures",
        "the file is empty",
        "the disk is full",
        "permission denied",
        "it was killed, most likely because the memory ran out",
        "training needs this package, which is not installed",
        "there is no run here that stopped before its end",
        "no such run folder or model",
        "the Docker engine does not run",
    ],
)
def test_what_goes_wrong_most_often_has_an_entry(first_words: str) -> None:
    assert any(entry.startswith(first_words) for entry in entries_of_troubleshooting())


def test_the_pages_have_every_setting_and_every_command() -> None:
    settings = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert [name for name in Config.model_fields if f"| `{name}` |" not in settings] == []
    commands = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert [name for name in cli.commands if f"\n## classifold {name}\n" not in commands] == []


@pytest.mark.slow
def test_the_page_lists_every_backbone_that_keras_brings(run_python: Callable[..., Any]) -> None:
    code = (
        "from classifold.training.backend import start_keras; start_keras('tensorflow', seed=0);"
        "from classifold.training.backbones import list_applications; print(*list_applications())"
    )
    answer = run_python("-c", code)
    assert answer.code == 0, answer.err
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8").partition("## Backbones")[2]
    listed = page.partition("keras-hub is installed:")[2].partition("A function")[0]
    assert re.findall(r"`(\w+)`", listed) == answer.out.split()


def test_the_architecture_has_one_line_for_every_file_and_for_no_other() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `([\w/.-]+\.[\w.]+)` \| \S", text, re.MULTILINE)
    source = ROOT / "src" / "classifold"
    files = [path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    expected = sorted(str(path.relative_to(source)) for path in files if path.stat().st_size)
    assert sorted(named) == expected


def test_the_glossary_has_at_most_forty_terms_and_each_is_used_in_the_code() -> None:
    page = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", page.partition("|---|")[2], re.MULTILINE)
    terms = [term for term, _ in rows]
    assert 20 <= len(terms) == len(set(terms)) <= 40
    assert all(re.fullmatch(r"[A-Z][^.]*\.", meaning) for _, meaning in rows)
    files = (ROOT / "src" / "classifold").rglob("*.py")
    code = " ".join(" ".join(path.read_text(encoding="utf-8") for path in files).split()).lower()
    assert [term for term in terms if not re.search(rf"\b{term}", code)] == []


def test_every_benchmark_is_listed_with_what_it_shows() -> None:
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "benchmarks").glob("*.py"):
        assert f"| `{path.name}` |" in text


def test_no_page_names_a_machine_of_ours() -> None:
    for page in PAGES:
        assert not re.search(r"/tmp/\w|/root/|/home/\w|/var/\w", page.read_text(encoding="utf-8")), page.name
