"""The pages tell the truth: what they point to is there, and their examples run."""

import re
import runpy
from pathlib import Path

import pytest
import yaml

from sojourn.environments import check_environment
from sojourn.environments.small import SMALL_WORLDS

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted([*REPOSITORY.glob("docs/*.md"), *REPOSITORY.glob("*.md")])


def blocks(page: Path) -> list[str]:
    """The Python programs on a page."""
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tests_that_a_page_names_exist(page: Path) -> None:
    for file, _, name in re.findall(r"`(tests/[\w/]+\.py)(::(\w+))?`", page.read_text()):
        assert (REPOSITORY / file).exists(), file
        assert not name or f"def {name}(" in (REPOSITORY / file).read_text(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page() -> None:
    entries = set(re.findall(r": ([\w-]+\.md)$", (REPOSITORY / "mkdocs.yml").read_text(), re.MULTILINE))
    assert entries == {page.name for page in REPOSITORY.glob("docs/*.md")}


def test_the_site_description_is_valid() -> None:
    assert yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text())["site_name"] == "Sojourn"


def test_the_examples_of_the_environments_page_are_sound() -> None:
    names: dict[str, object] = {}
    for block in blocks(REPOSITORY / "docs/environments.md"):
        exec(compile(block, "environments.md", "exec"), names)
    for world in ("world", "backwards", "vault", "cart", "sums"):
        assert check_environment(names[world], count=1)


def test_the_episodes_of_the_small_worlds_are_real() -> None:
    page = (REPOSITORY / "docs/worlds-small.md").read_text()
    script = runpy.run_path(str(REPOSITORY / "docs/worlds_small.py"))
    assert script["render"](page) == page, "run python docs/worlds_small.py"
    assert script["BLOCK"].findall(page) == re.findall(r"^## (\w+)$", page, re.MULTILINE)
    assert set(script["BLOCK"].findall(page)) == set(SMALL_WORLDS)


def test_the_example_of_the_small_worlds_page_is_sound() -> None:
    names: dict[str, object] = {}
    (block,) = blocks(REPOSITORY / "docs/worlds-small.md")
    exec(compile(block, "worlds-small.md", "exec"), names)
    assert check_environment(names["hard_search"], count=1) and check_environment(names["with_example"], count=1)


def test_the_examples_of_the_programs_page_run(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for block in blocks(REPOSITORY / "docs/programs.md"):
        exec(compile(block, "programs.md", "exec"), names)
    totals, actions = capsys.readouterr().out.strip().split("] [")
    assert actions == "2, 2]", "each episode of the program speaks twice"
    assert totals.startswith("[")


def test_the_examples_of_the_data_page_print_what_they_say(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for block in blocks(REPOSITORY / "docs/data.md"):
        exec(compile(block, "data.md", "exec"), names)
    page = (REPOSITORY / "docs/data.md").read_text()
    assert capsys.readouterr().out.splitlines() == re.findall(r"^print\(.*\)  # (.*)$", page, re.MULTILINE)
    assert names["right"]([[{"role": "assistant", "content": "It is 4."}]], answer=["4"], id=[7]) == [1.0]  # type: ignore[operator]


def test_the_example_of_the_serve_page_trains(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openai")
    pytest.importorskip("starlette")
    monkeypatch.chdir(tmp_path)
    (block,) = blocks(REPOSITORY / "docs/serve.md")
    exec(compile(block, "serve.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.splitlines()[-1] == re.findall(r"^print\(.*\)  # (.*)$", block, re.MULTILINE)[0]


def test_the_example_of_the_tracking_page_prints_what_it_says(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = blocks(REPOSITORY / "docs/tracking.md")
    exec(compile(block, "tracking.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == re.findall(r"  # (1 .*)$", block, re.MULTILINE)


def test_the_config_of_the_command_line_page_has_the_range_that_it_says() -> None:
    (block,) = blocks(REPOSITORY / "docs/cli.md")
    *program, refused = block.splitlines()
    names: dict[str, object] = {}
    exec(compile("\n".join(program), "cli.md", "exec"), names)
    call, said = refused.split("  # ValueError: ")
    with pytest.raises(ValueError, match=re.escape(said)):
        eval(call, names)


def test_the_agent_program_of_the_index_is_the_one_that_runs() -> None:
    (shown,) = blocks(REPOSITORY / "docs/index.md")
    source = (REPOSITORY / "src/sojourn/agents/react.py").read_text()
    body = [line.strip() for line in shown.splitlines()[1:]]
    assert [line for line in body if line not in source] == []
