"""What README.md and docs/ say exists: commands and their options, links, modules, settings, assets and tables."""

import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import pytest
import typer
from typer.core import TyperGroup

from al_pipeline.cli.app import app
from al_pipeline.ledger.schema import metadata
from al_pipeline.settings import Settings, load_settings
from al_pipeline.settings.origins import flat
from al_pipeline_tests.settings_page import FINETUNE, NOTES, PAGE, settings_page

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "al_pipeline"
README, ARCHITECTURE = ROOT / "README.md", ROOT / "docs" / "architecture.md"
USER_PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [
    *USER_PAGES,
    *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs" / "results").glob("*.md")),
]
MOST_WORDS = 1600
FOLDERS = ("al_pipeline/", "al_pipeline_tests/", "benchmarks/", "deploy/", "docs/", "notebooks/")
ROOMS = {folder.name for folder in PACKAGE.iterdir() if folder.is_dir()}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(text: str) -> list[tuple[str, str]]:
    """Return language and content of the fenced blocks."""
    return re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def inline(text: str) -> list[str]:
    """Return what stands in backticks outside of blocks, also where a line ends within."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(text))]


class Said(NamedTuple):
    """A command line that a page shows."""

    page: str
    words: list[str]


def command_lines(program: str) -> Iterator[Said]:
    for page in [*USER_PAGES, ROOT / "CONTRIBUTING.md"]:
        text = page.read_text(encoding="utf-8")
        lines = [
            re.split(r"\s#", line)[0] for language, block in blocks(text) if not language for line in block.splitlines()
        ]
        for line in [*lines, *inline(text)]:
            # Also behind `docker compose exec`.
            found = re.search(rf"(?:^|\s)(?:\.venv/bin/)?{program}(?:\s(.*))?$", line)
            if found and not re.match(r"^\s*[|└┌]", line):
                yield Said(name_of(page), shlex.split(found[1] or ""))


def al_commands() -> dict[str, Any]:
    """Return every command of `al` by its words, as "ledger import"; "" is `al` itself."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    found: dict[str, Any] = {"": group}
    for name, command in group.commands.items():
        found[name] = command
        if isinstance(command, TyperGroup):
            found |= {f"{name} {below}": inner for below, inner in command.commands.items()}
    return found


COMMANDS = al_commands()
OPTIONS = {
    option
    for command in COMMANDS.values()
    for param in command.params
    for option in (*param.opts, *param.secondary_opts)
}


def split_command(words: list[str]) -> tuple[str, list[str]]:
    """Return the longest command that the words begin with, and the rest."""
    for length in (2, 1):
        if len(words) >= length and " ".join(words[:length]) in COMMANDS:
            return " ".join(words[:length]), words[length:]
    return "", words


AL_LINES = sorted({(said.page, *said.words) for said in command_lines("al")})


@pytest.mark.parametrize("said", AL_LINES, ids=" ".join)
def test_every_al_command_and_option_exists(said: tuple[str, ...]) -> None:
    name, rest = split_command(list(said[1:]))
    if not rest or rest == ["--help"]:
        # A command named, not shown with what it takes.
        assert name or len(said) == 1 or rest == ["--help"]
        return
    assert name, f"{said[0]} shows `al {' '.join(said[1:])}`, and there is no such command"
    # Parsed as it would be, but not run: unknown options, wrong values and missing arguments are errors.
    COMMANDS[name].make_context(name, rest).close()


def test_the_docs_name_every_command_and_only_options_that_exist() -> None:
    named = {split_command(list(said[1:]))[0] for said in AL_LINES}
    groups = {name for name, command in COMMANDS.items() if isinstance(command, TyperGroup)}
    assert set(COMMANDS) - named - groups == set()
    alone = {
        code
        for page in USER_PAGES
        for code in inline(page.read_text(encoding="utf-8"))
        if re.fullmatch(r"--[\w-]+( \S+)?", code)
    }
    assert {code.split()[0] for code in alone} - OPTIONS == set()


def test_make_setup_ends_with_what_to_do_next_and_no_other_target_does() -> None:
    def recipe(target: str) -> str:
        asked = ["make", "--dry-run", "--old-file", ".venv/.synced", target]
        return subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    said = recipe("setup")
    assert said.count("echo") == 2
    assert "al up --images DIR" in said
    assert "make demo" in said
    assert "echo" not in recipe("demo")


def test_every_target_of_make_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    said = {said.words[0] for said in command_lines("make") if said.words}
    assert {"demo", "test", "docs", "faults"} <= said
    assert said - targets == set()
    with_arguments = [
        said.words for said in command_lines("make") if any(word.startswith("ARGS=") for word in said.words)
    ]
    for target, arguments in with_arguments:
        COMMANDS[target].make_context(target, arguments.removeprefix("ARGS=").split()).close()


def test_every_program_that_python_is_told_to_run_exists() -> None:
    said = {
        (name_of(page), found)
        for page in PAGES
        for found in re.findall(r"python -m (\w[\w.]*\w)", page.read_text(encoding="utf-8"))
    }
    assert said
    assert [(page, module) for page, module in sorted(said) if find_spec(module) is None] == []


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page.read_text(encoding="utf-8")), flags=re.MULTILINE):
        text = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()).replace(" ", "-")
        number = 0
        while (anchor := f"{text}-{number}" if number else text) in found:
            number += 1
        found.add(anchor)
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.is_relative_to(ROOT) or not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", [*USER_PAGES, ROOT / "CONTRIBUTING.md"], ids=name_of)
def test_every_module_that_is_named_exists(page: Path) -> None:
    named = [code for code in inline(page.read_text(encoding="utf-8")) if re.fullmatch(r"[\w./]+", code)]
    missing = [
        code for code in named if (is_path(code) and not is_there(code)) or (is_dotted(code) and not importable(code))
    ]
    assert missing == []


def is_path(code: str) -> bool:
    """Tell whether this names a module or one of our folders; others are of the user's machine."""
    return code.endswith(".py") or code.startswith(FOLDERS) or (code.endswith("/") and code.split("/")[0] in ROOMS)


def is_there(code: str) -> bool:
    """Look in the repository and in the package; a module that is named alone is in some room."""
    return (ROOT / code).exists() or (PACKAGE / code).exists() or ("/" not in code and any(PACKAGE.rglob(code)))


def is_dotted(code: str) -> bool:
    return re.fullmatch(r"al_pipeline(\.\w+)+", code) is not None


def importable(dotted: str) -> bool:
    """Tell whether this is a module, or a name in one."""
    parent, _, name = dotted.rpartition(".")
    try:
        return hasattr(import_module(parent), name) or bool(import_module(dotted))
    except ModuleNotFoundError:
        return False


def test_the_tree_of_architecture_is_the_tree_there_is() -> None:
    section = ARCHITECTURE.read_text(encoding="utf-8").split("## The rooms")[1]
    tree = blocks(section)[0][1]
    listed, above = set[str](), list[str]()
    for indent, entry in re.findall(r"^( *)(\S+)", tree, flags=re.MULTILINE):
        above = [*above[: len(indent) // 2], entry]
        listed.add("".join(above))
    there = {
        f"{name_of(folder.parent)}/" for folder in PACKAGE.rglob("__init__.py") if "migrations" not in folder.parts
    }
    there |= {
        name_of(file)
        for folder in (PACKAGE, PACKAGE / "core")
        for file in folder.glob("*.py")
        if not file.name.startswith("__")
    }
    of_the_package = {entry for entry in listed if entry.startswith("al_pipeline/")}
    assert of_the_package == there
    assert [entry for entry in listed if not (ROOT / entry).exists()] == []


def test_the_layers_of_architecture_are_those_that_are_held() -> None:
    said = re.search(r"\*\*Who may import whom\*\*: `([^`]+)`", ARCHITECTURE.read_text(encoding="utf-8"))
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    held = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    rooms = [set(re.findall(r"al_pipeline\.(\w+)", layer)) - {"definitions"} for layer in held]
    assert said
    assert [set(" ".join(layer.split()).split(", ")) for layer in said[1].split("→")] == rooms


def test_the_page_of_settings_is_what_is_declared() -> None:
    assert PAGE.read_text(encoding="utf-8") == settings_page(), "run `make docs`"
    groups = Settings.model_json_schema()["$defs"]
    assert set(NOTES) <= set(Settings.model_fields)
    assert any(set(FINETUNE) <= set(group.get("properties", ())) for group in groups.values())


@pytest.mark.parametrize(
    "page", [page for page in USER_PAGES if "```toml" in page.read_text(encoding="utf-8")], ids=name_of
)
def test_every_example_of_al_toml_can_be_set(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AL_TRAINING__WEIGHTS")
    for language, example in blocks(page.read_text(encoding="utf-8")):
        if language == "toml":
            (tmp_path / "al.toml").write_text(example, encoding="utf-8")
            loaded = dict(flat(load_settings().model_dump(mode="json")))
            said = dict(flat(tomllib.loads(example)))
            assert {name: loaded[name] for name in said} == {
                name: None if value in ("all", "none") else value for name, value in said.items()
            }


def test_every_setting_that_a_page_names_exists() -> None:
    prefix = str(Settings.model_config.get("env_prefix"))
    known = set(re.findall(rf"`({prefix}\w+)`", settings_page()))
    # Variables of the tests and of `make faults`, which are no settings.
    elsewhere = "".join(
        file.read_text(encoding="utf-8")
        for file in [ROOT / "Makefile", ROOT / ".ci" / "run", *(ROOT / "al_pipeline_tests").rglob("*.py")]
        if file != Path(__file__)
    )
    unknown = [
        (name_of(page), name)
        for page in [*USER_PAGES, ROOT / "CONTRIBUTING.md"]
        for name in re.findall(rf"\b{prefix}[A-Z][A-Z_]*[A-Z]\b", page.read_text(encoding="utf-8"))
        if name not in known and not re.search(rf"\b{name}\b", elsewhere)
    ]
    assert unknown == []


def test_the_readme_is_short() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.split()) <= MOST_WORDS
    assert text.index("## How a round works") < text.index("## Settings")


def test_what_a_round_writes_names_every_asset_and_every_table() -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8")
    section = text.split("## What a round writes")[1].split("\n## ")[0]
    from al_pipeline.definitions import defs

    assert isinstance(defs, dg.Definitions)
    assets = {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}
    assert set(re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE)) == assets
    assert [table for table in metadata.tables if f"`{table}`" not in section] == []
