"""Answers as files: a picture, a report, the heatmap, and a Python program that repeats them."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import jax

from scorecam_jax.app.engine import Answer, samples_like
from scorecam_jax.app.pictures import Style
from scorecam_jax.app.question import Question
from scorecam_jax.reading import find
from scorecam_jax.study.drawing import Job, by_target, draw
from scorecam_jax.study.look import Look
from scorecam_jax.study.outputs import Guard, save
from scorecam_jax.study.sameness import unwrap
from scorecam_jax.study.study import Study


def write(answer: Answer, style: Style, folder: Path, source: Mapping[str, Any]) -> list[Path]:
    """Write an answer to files.

    Args:
        answer: the answer.
        style: how the answer is drawn.
        folder: the folder of the files.
        source: the arguments of `models.load`.

    Returns:
        The files: a sheet (PNG), a report (HTML), the heatmap at the photograph's size (NPY) and a
        program (Python).

    Raises:
        ReadingError: the photograph is gone.
    """
    question = answer.question
    files = [folder / f"{_stem(question)}{suffix}" for suffix in (".png", ".html", ".npy", ".py")]
    picture, report, heatmap, program = files
    (photo,) = find([question.photo]).sources
    look = Look(
        style.colormap, style.alpha, network=str(source.get("name") or ""), layers=question.layers
    )
    guard = Guard([question.photo], force=True)
    draw(answer.plan, answer.record, Job(photo, picture, heatmap, False), look, by_target, guard)
    text = Study(answer.plan, [answer.record], [], [], []).report(
        title=f"What the network looked at in {question.photo.name}",
        settings={
            **source, "layer": answer.plan.classifier.layer, "layers": question.layers,
            "methods": [question.method],
        },
        colormap=style.colormap,
    )  # fmt: skip
    for path, content in ((report, text), (program, as_python(answer, style, source))):
        save(path, functools.partial(_write_text, content))
    return files


def _write_text(text: str, file: BinaryIO) -> None:
    file.write(text.encode("utf-8", "backslashreplace"))


def as_python(answer: Answer, style: Style, source: Mapping[str, Any]) -> str:
    """A program that draws the same picture; it reads the photographs from its working folder."""
    question, plan = answer.question, answer.plan
    named = {**source, "layer": question.layer, "embedding": bool(question.like) or None}
    load = ", ".join(
        f"{name}={str(value) if isinstance(value, Path) else value!r}"
        for name, value in named.items()
        if value is not None
    )
    lines = [
        f"classifier = models.load({load})",
        f"photo = read_picture(Path({question.photo.name!r})).image",
    ]
    if question.layers > 1:
        lines[0] += f".with_layers({question.layers})"
    imported = {"METHODS", "models"}
    options = {"targets": f"[{answer.record.targets[0].index}]"}
    if question.like:
        like = question.like
        # The explained sample is not among the photographs that it is compared with.
        same = {one.stem for path in (question.photo, like) for one in samples_like(path)}
        others = ""
        if same:
            imported.add("samples")
            lines += [
                "others = {",
                "    name: read_picture(path).image",
                "    for name, path in samples.paths().items()",
                f"    if name not in {sorted(same)!r}",
                "}",
            ]
            others = ", others=others"
        lines += [
            f"like = read_picture(Path({like.name!r})).image",
            f"classifier = models.likeness(classifier, {{{f'like {like.stem}'!r}: like}}{others})",
        ]
    score = _score(question, plan)
    if plan.rather_than is not None:
        imported.add("scores")
        inner = f", score={score}" if score else ""
        score = f"scores.contrast({plan.rather_than}{inner})"
    if score:
        options["score"] = score
    if answer.scored and not answer.exact:
        options["channels"] = str(answer.scored)
    if "key" in unwrap(plan.methods[question.method])[1]:
        options["key"] = "jax.random.key(0)"
    given = "".join(f", {name}={value}" for name, value in options.items())
    code = "\n".join(
        [
            *lines,
            "image = classifier.preprocess(photo)",
            f"explain = METHODS[{question.method!r}]",
            f"explanation = explain(classifier.model, image[None]{given})",
            "heatmap = classifier.preprocess.restore(explanation.heatmap[0], photo.size)",
            f"picture = overlay(photo, heatmap, colormap={style.colormap!r}, alpha={style.alpha})",
            f"picture.save({f'{_stem(question)}.png'!r})",
        ]
    )
    heads = ["from pathlib import Path", ""]
    if "jax." in code.replace("scorecam_jax.", ""):
        heads += ["import jax", ""]
    heads += [f"from scorecam_jax import {', '.join(sorted(imported))}"]
    if "plan_of(" in code:
        heads.append("from scorecam_jax.app.question import Question, plan_of")
    heads += [
        "from scorecam_jax.reading import read_picture",
        "from scorecam_jax.visualize import overlay",
    ]
    return "\n".join([*heads, "", code, ""])


def _stem(question: Question) -> str:
    return f"{question.photo.stem}-{question.method.replace('-', '')}"


def _score(question: Question, plan: Any) -> str | None:
    """The code for the score of a region or a box; None if the outputs are logits."""
    inputs = jax.ShapeDtypeStruct((1, *plan.classifier.input_shape), "float32")
    outputs, _ = jax.eval_shape(plan.classifier.model, inputs)
    if len(getattr(outputs, "shape", ())) == 2:
        return None
    asked = f"Question(Path({question.photo.name!r}), box={question.box!r})"
    return f"plan_of({asked}, classifier, 'photo', photo.size)[1]"
