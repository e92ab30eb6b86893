"""What MkDocs does with these pages: it fills the reference, and adds the notebooks.

Pages in `api/` name what they show:

    <!-- methods -->                       every method, by group
    <!-- around methods -->                what else the package exports of their folder
    <!-- public MODULE -->                 what a module exports, each name once: functions,
                                           classes, then data
    <!-- public MODULE without A, B -->    what it exports but for some
    <!-- public MODULE of HOME -->         what it exports that HOME defines, after HOME's docstring

and, as mkdocstrings has it, `::: scorecam_jax.home.name` for a single name.
"""

import ast
import functools
import importlib
import inspect
import pkgutil
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ("quickstart", "composition", "evaluation")

_FOLDER = "scorecam_jax.methods"
_OF_ITS_OWN = (_FOLDER, f"{_FOLDER}.base")  # what has a heading on the page


def expand(markdown: str) -> str:
    """A page of the reference, with a line `::: ...` for each name that it shows."""
    for marker, filled in (("methods", _methods), ("around methods", _around_methods)):
        if f"<!-- {marker} -->" in markdown:
            markdown = markdown.replace(f"<!-- {marker} -->", filled())
    markdown = re.sub(
        r"^<!-- public (\S+) of (\S+) -->$",
        lambda found: _group(found[1], found[2]),
        markdown,
        flags=re.M,
    )
    return re.sub(
        r"^<!-- public (\S+)(?: without (.+))? -->$",
        lambda found: _lines(public(found[1], (found[2] or "").split(", "))),
        markdown,
        flags=re.M,
    )


def public(module: str, without: Any = ()) -> list[str]:
    """Where the names are defined that a module exports; a plain module exports its own."""
    found = importlib.import_module(module)
    own = [name for name, value in vars(found).items() if _is_own(name, value, module)]
    names = getattr(found, "__all__", own)
    homes = [home(found, name) for name in names if name not in without]
    return sorted(homes, key=_kind)


def home(module: Any, name: str) -> str:
    """The full name of what a module exports, where it is defined."""
    value = getattr(module, name)
    if inspect.ismodule(value):
        return value.__name__
    if hasattr(value, "__qualname__") and value.__module__.startswith("scorecam_jax"):
        return f"{value.__module__}.{name}"
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
            return home(importlib.import_module(str(node.module)), name)
    return f"{module.__name__}.{name}"


@functools.cache
def shown() -> dict[str, str]:
    """The full names that the reference shows, by their last part, where that is unambiguous.

    A heading `## Title {#MODULE}` shows a module.
    """
    texts = [expand(page.read_text("utf-8")) for page in sorted((ROOT / "docs/api").glob("*.md"))]
    paths = re.findall(r"(?:^::: |^#+ .*\{#)([\w.]+)\}?$", "\n".join(texts), re.M)
    names = [path.rpartition(".")[2] for path in paths]
    return {name: path for name, path in zip(names, paths, strict=True) if names.count(name) == 1}


def _is_own(name: str, value: Any, module: str) -> bool:
    if name.startswith("_"):
        return False
    if hasattr(value, "__qualname__"):
        return value.__module__ == module
    return name.isupper()


def _kind(path: str) -> int:
    """0 for functions, 1 for classes, 2 for other data, 3 for tables."""
    value = pkgutil.resolve_name(path)
    if inspect.isclass(value):
        return 1
    if callable(value):
        return 0
    return 3 if isinstance(value, Mapping) else 2


def _group(module: str, home: str) -> str:
    about = inspect.getdoc(importlib.import_module(home)) or ""
    sentence = about.partition(": ")[2]  # after the title, which is the page's heading
    paths = [path for path in public(module) if path.rpartition(".")[0] == home]
    return f"{sentence[:1].upper()}{sentence[1:]}\n\n{_lines(paths, level=3)}"


def _lines(paths: list[str], level: int = 2) -> str:
    # A table's docstring says what is in it; its source would fill the page.
    return "\n\n".join(
        f"::: {path}\n    options:\n      heading_level: {level}\n"
        f"      show_attribute_values: {str(_kind(path) < 3).lower()}"
        for path in paths
    )


def _methods() -> str:
    from scorecam_jax.methods import GROUPS, METHODS

    parts = []
    for group, about in GROUPS.items():
        entries = [entry for entry in METHODS.entries.values() if entry.group == group]
        paths = [f"{_FOLDER}.{entry.home.replace(':', '.')}" for entry in entries]
        title = f"## {group.capitalize()}\n\nEach {about}."
        parts += [title, _lines(paths, level=3)]
    return "\n\n".join(parts)


def _around_methods() -> str:
    import scorecam_jax

    homes = [home(scorecam_jax, name) for name in scorecam_jax.__all__]
    elsewhere = {*re.findall(r"^::: (\S+)$", _methods(), re.M), *public(f"{_FOLDER}.variants")}
    chosen = [one for one in homes if one.startswith(f"{_FOLDER}.") and one not in elsewhere]
    chosen = [one for one in chosen if one.rpartition(".")[0] not in _OF_ITS_OWN]
    return _lines(sorted(chosen, key=_kind), level=3)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Name what a page of the reference shows, and let the search find guides before it."""
    if not page.file.src_uri.startswith("api/"):
        return markdown
    page.meta["search"] = {"boost": 0.5}
    return expand(markdown)


def on_files(files: Any, config: Any) -> Any:
    """Put the notebooks on the site."""
    from mkdocs.structure.files import File

    for name in NOTEBOOKS:
        uri = f"notebooks/{name}.ipynb"
        directory_urls = config["use_directory_urls"]
        files.append(File(uri, str(ROOT), config["site_dir"], directory_urls))
    return files


on_files.mkdocs_priority = 100  # type: ignore[attr-defined]  # before the plugin that reads them
