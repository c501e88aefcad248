"""The project's own files: changelog, citation, version, workflows and forms fit together."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from classifold import __version__

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(one for one in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if one.stem != "config")
SECTIONS = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def load(path: Path) -> dict[str, Any]:
    # YAML 1.1 reads the word `on` as true.
    text = re.sub(r"^on:", '"on":', path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(yaml.safe_load(text))


def jobs_of(workflow: Path) -> dict[str, dict[str, Any]]:
    return dict(load(workflow)["jobs"])


def steps_of(workflow: Path) -> Iterator[dict[str, Any]]:
    for job in jobs_of(workflow).values():
        yield from job.get("steps", [])


def name_of(path: Path) -> str:
    return path.name


# Version and changelog


def read_changelog() -> list[tuple[str, str]]:
    """Return the heading and the text of every version in CHANGELOG.md."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").partition("\n[Unreleased]: ")[0]
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def test_the_changelog_has_versions_with_dates_the_newest_first() -> None:
    first, *versions = [heading for heading, _ in read_changelog()]
    assert first == "[Unreleased]"
    found = [re.fullmatch(r"\[(\d+)\.(\d+)\.(\d+)\] - (\d{4}-\d\d-\d\d)", one) for one in versions]
    assert all(found)
    assert any(heading.startswith(f"[{__version__}] - ") for heading in versions)
    order = [(*map(int, one.groups()[:3]), date.fromisoformat(one[4])) for one in found if one]
    assert order == sorted(order, reverse=True)


def test_every_section_of_the_changelog_has_a_known_name_and_the_usual_place() -> None:
    for heading, text in read_changelog():
        names = re.findall(r"^### (.+)$", text, re.MULTILINE)
        assert names == sorted(set(names), key=SECTIONS.index), heading
        assert all(part.strip() for part in re.split(r"^### .+$", text, flags=re.MULTILINE)[1:]), heading


def test_every_version_of_the_changelog_is_a_link() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    named = [heading.partition("]")[0] + "]" for heading, _ in read_changelog()]
    assert re.findall(r"^(\[.+?\]): https://\S+$", text, re.MULTILINE) == named


def test_the_version_is_said_in_one_place_alone() -> None:
    assert "version" not in PROJECT["project"]
    assert PROJECT["project"]["dynamic"] == ["version"]
    place = ROOT / PROJECT["tool"]["hatch"]["version"]["path"]
    assert f'__version__ = "{__version__}"\n' in place.read_text(encoding="utf-8")


def test_the_citation_has_the_version_and_the_date_of_the_changelog() -> None:
    citation = load(ROOT / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == __version__
    assert f"[{__version__}] - {citation['date-released']}" in [heading for heading, _ in read_changelog()]
    assert citation["license"] == PROJECT["project"]["license"]
    assert citation["abstract"] == PROJECT["project"]["description"]


# Releases


@pytest.fixture
def check_release(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that checks a copy of the project for a release, with changes of its files."""
    for name in ("scripts/check-release", "src/classifold/__init__.py", "CITATION.cff"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    dates = load(ROOT / "CITATION.cff")["date-released"]
    log = f"# Changelog\n\n## [Unreleased]\n\n## [{__version__}] - {dates}\n\n### Added\n\n- all\n"
    (tmp_path / "CHANGELOG.md").write_text(log)

    def call(tag: str, **changes: str) -> subprocess.CompletedProcess[str]:
        for name, text in changes.items():
            (tmp_path / {"log": "CHANGELOG.md", "cited": "CITATION.cff"}[name]).write_text(text)
        words = [sys.executable, str(tmp_path / "scripts" / "check-release"), tag]
        return subprocess.run(words, capture_output=True, encoding="utf-8", check=False)

    return call


def test_a_tag_that_is_the_version_may_be_released(check_release: Callable[..., Any]) -> None:
    done = check_release(f"v{__version__}")
    assert (done.returncode, done.stderr) == (0, "")


def test_whatever_disagrees_with_the_tag_is_named_with_its_cure(check_release: Callable[..., Any]) -> None:
    done = check_release(
        "v99.0.0",
        log="# Changelog\n\n## [Unreleased]\n\n- more\n",
        cited="version: 1.0\ndate-released: 2020-01-01\n",
    )
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert [line.split(": ")[1] for line in lines[::2]] == ["tag", *["CHANGELOG.md"] * 2, "CITATION.cff"]
    assert all(line.startswith("hint: ") for line in lines[1::2])


# Workflows


def test_there_is_a_workflow_for_tests_docs_wheel_and_release() -> None:
    assert [path.stem for path in WORKFLOWS] == ["docs", "release", "test", "wheel"]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=name_of)
def test_every_script_that_a_workflow_calls_is_there_and_can_be_run(workflow: Path) -> None:
    called = [step["run"].split()[0] for step in steps_of(workflow) if "run" in step]
    assert [one for one in called if not one.startswith("scripts/")] == []
    for one in called:
        assert (ROOT / one).stat().st_mode & 0o111, one
    for job in jobs_of(workflow).values():
        if "uses" in job:
            assert (ROOT / job["uses"]).is_file()


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=name_of)
def test_every_job_has_only_the_permissions_that_it_needs_and_a_time_limit(workflow: Path) -> None:
    assert load(workflow)["permissions"] == {}
    text = workflow.read_text(encoding="utf-8")
    assert "secrets." not in text
    assert "pull_request_target" not in text
    for name, job in jobs_of(workflow).items():
        writes = {right for right, value in job["permissions"].items() if value != "read"}
        wanted = {"deploy": {"pages", "id-token"}, "publish": {"id-token"}}.get(name, set())
        assert writes == wanted, name
        assert "uses" in job or job["timeout-minutes"] <= 90


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=name_of)
def test_every_action_is_named_by_its_commit_with_the_version_beside_it(workflow: Path) -> None:
    used = re.findall(r"uses: (?!\./)(.+)$", workflow.read_text(encoding="utf-8"), re.MULTILINE)
    assert [one for one in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one)] == []


def test_no_workflow_leaves_credentials_in_the_checkout() -> None:
    checkouts = [
        step
        for workflow in WORKFLOWS
        for step in steps_of(workflow)
        if step.get("uses", "").startswith("actions/checkout@")
    ]
    assert len(checkouts) >= 4
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_the_workflows_test_every_python_that_the_package_says_it_supports() -> None:
    mark = "Programming Language :: Python :: 3."
    said = [one.rpartition(" ")[2] for one in PROJECT["project"]["classifiers"] if one.startswith(mark)]
    for name in ("test", "wheel"):
        matrix = jobs_of(ROOT / ".github" / "workflows" / f"{name}.yml")["test"]["strategy"]["matrix"]
        assert matrix["python"] == said
    assert PROJECT["project"]["requires-python"] == f">={said[0]}"


def test_only_a_tag_is_released_and_only_after_the_checks() -> None:
    workflow = ROOT / ".github" / "workflows" / "release.yml"
    assert load(workflow)["on"] == {"push": {"tags": ["v*"]}}
    jobs = jobs_of(workflow)
    assert (jobs["publish"]["needs"], jobs["wheel"]["needs"]) == ("wheel", "check")
    assert jobs["publish"]["environment"]["name"] == "pypi"


# Forms and hooks


def test_the_forms_ask_for_what_a_bug_needs() -> None:
    assert [path.stem for path in FORMS] == ["bug", "feature"]
    for path in FORMS:
        form = load(path)
        assert form["name"]
        assert form["description"]
        asked = [one for one in form["body"] if one["type"] != "markdown"]
        assert all(one["attributes"]["label"] and one["id"] for one in asked)
    bug = {one.get("id") for one in load(FORMS[0])["body"] if one.get("validations", {}).get("required")}
    assert bug >= {"version", "system", "command", "output"}


def test_whoever_opens_an_issue_is_sent_to_the_page_of_security_with_a_vulnerability() -> None:
    chooser = load(ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml")
    assert chooser["blank_issues_enabled"] is False
    assert chooser["contact_links"][0]["url"].endswith("/security/policy")
    assert "SECURITY.md" in chooser["contact_links"][0]["about"]


def test_the_hooks_are_programs_of_the_tests_environment() -> None:
    (local,) = load(ROOT / ".pre-commit-config.yaml")["repos"]
    assert local["repo"] == "local"
    assert [hook["id"] for hook in local["hooks"]] == ["ruff", "ruff-format", "mypy", "refresh"]
    for hook in local["hooks"]:
        assert hook["entry"].startswith(".test/env/bin/")
        assert hook["language"] == "system"


def test_the_page_for_contributors_names_files_that_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = re.findall(r"`?\b((?:src|tests|docs|scripts|container)/[\w./-]+)", text)
    assert len(set(paths)) > 12
    assert [one for one in paths if not (ROOT / one.rstrip(".")).exists()] == []
