"""The project's files agree: versions, dates, authors and the repository's address."""

import json
import os
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.peers import table

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
REPOSITORY = PROJECT["urls"]["Repository"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
AUTHORS = [author["name"] for author in PROJECT["authors"]]


def test_changelog_and_citation_are_of_this_version():
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    version, date = re.search(r"^## (\S+) \((\S+)\)$", text, re.M).groups()
    assert version == PROJECT["version"]
    preferred = CITATION["preferred-citation"]
    assert CITATION["version"] == preferred["version"] == version
    if date == "unreleased":
        assert "date-released" not in CITATION
    else:
        assert str(CITATION["date-released"]) == date
        assert str(preferred["year"]) == date[:4]


def test_citations_name_the_authors_and_the_licence():
    zenodo = json.loads((ROOT / ".zenodo.json").read_text("utf-8"))
    preferred = CITATION["preferred-citation"]
    for authors in (CITATION["authors"], preferred["authors"], zenodo["creators"]):
        assert [author["name"] for author in authors] == AUTHORS
    licences = {one["license"] for one in (CITATION, preferred, zenodo)}
    assert licences == {PROJECT["license"]}


def ours():
    """Every text file of the project, generated ones left out."""
    ends = (".md", ".toml", ".yml", ".yaml", ".cff", ".json", ".ipynb", ".py", ".bib")
    generated = {"build", "dist", "out", "results", "site", "__pycache__"}
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [
            name for name in folders if name == ".github" or not name.startswith(".")
            if name not in generated
        ]  # fmt: skip
        yield from (Path(folder) / name for name in files if name.endswith(ends))


def test_one_address_is_given_everywhere():
    owner, name = REPOSITORY.removeprefix("https://github.com/").split("/")
    pattern = (
        r"https://(?:raw\.githubusercontent|github)\.com/([\w.-]+)/scorecam_jax\b"
        r"|https://([\w-]+)\.github\.io/scorecam_jax\b"
        r"|colab\.research\.google\.com/github/([\w.-]+)/"
    )
    owners = {
        found
        for path in ours()
        for match in re.findall(pattern, path.read_text("utf-8"))
        for found in match
        if found
    }
    assert owners == {owner}
    assert name == PROJECT["name"]


def test_the_index_shows_the_readme_with_the_links_of_the_release():
    text = (ROOT / "README.md").read_text("utf-8")
    hook = PYPROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    for change in hook["substitutions"]:
        text = re.sub(change["pattern"], change["replacement"], text)
    text = text.replace("$HFPR_VERSION", PROJECT["version"])
    links = re.findall(r"(!?)\[(?:!\[[^]]*\]\([^)]*\)|[^]]*)\]\(([^)]*)\)", text)
    assert not [link for _, link in links if not link.startswith(("https://", "#"))]
    raw = f"https://raw.githubusercontent.com/{REPOSITORY.removeprefix('https://github.com/')}"
    pictures = [link.removeprefix(f"{raw}/v{PROJECT['version']}/") for mark, link in links if mark]
    assert pictures
    assert all((ROOT / picture).is_file() for picture in pictures)


def test_the_conda_recipe_asks_for_what_the_package_does():
    recipe = yaml.safe_load((ROOT / "recipe" / "recipe.yaml").read_text("utf-8"))
    assert recipe["context"]["version"] == PROJECT["version"]
    assert f">={recipe['context']['python_min']}" == PROJECT["requires-python"]
    wanted = {requirement.replace(" ", "") for requirement in recipe["requirements"]["run"][1:]}
    assert wanted == set(PROJECT["dependencies"])
    built = {requirement.replace(" ", "") for requirement in recipe["requirements"]["host"][2:]}
    assert built == set(PYPROJECT["build-system"]["requires"])
    ((name, target),) = PROJECT["scripts"].items()
    assert recipe["build"]["python"]["entry_points"] == [f"{name} = {target}"]


def test_tables_of_the_paper_are_those_of_the_documentation():
    text = (ROOT / "paper" / "paper.md").read_text("utf-8")
    told = {line for page in ("variants", "benchmarks") for line in lines_of(f"docs/{page}.md")}
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) > 10
    assert not [row for row in rows if row not in told]


def lines_of(name):
    return (ROOT / name).read_text("utf-8").splitlines()


def test_the_table_of_variants_is_what_was_measured():
    text = (ROOT / "docs" / "variants.md").read_text("utf-8")
    assert table.markdown(table.read()) in text


def test_pictures_of_the_gallery_are_small_and_shown():
    pictures = sorted((ROOT / "docs" / "images" / "gallery").glob("*.webp"))
    sizes = [picture.stat().st_size for picture in pictures]
    assert max(sizes) < 100_000
    assert sum(sizes) < 1_000_000
    text = "\n".join(lines_of("docs/gallery.md") + lines_of("docs/which-layer.md"))
    assert set(re.findall(r"images/gallery/([\w-]+\.webp)", text)) == {one.name for one in pictures}


@pytest.mark.parametrize("minor", range(11, 15))
def test_each_python_that_is_tested_has_its_classifier(minor):
    assert f"Programming Language :: Python :: 3.{minor}" in PROJECT["classifiers"]
    text = (ROOT / ".github/workflows/tests.yml").read_text("utf-8")
    assert f'"3.{minor}"' in text
