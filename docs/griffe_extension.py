"""What mkdocstrings has to know about this package's annotations and docstrings."""

import ast
import re
import runpy
from pathlib import Path
from typing import Any

import griffe

DOCTEST = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)
FLAG = re.compile(r" *# doctest: .*$", re.MULTILINE)
NAME = re.compile(r"(?<![`\[])`([A-Za-z]\w+)`(?!`)")

# Names of the reference that docstrings use for other things too, such as fields and modules.
NOT_LINKED = {"blur", "find", "names", "path", "paths", "random", "unit", "values"}

_shown = runpy.run_path(str(Path(__file__).with_name("hooks.py")))["shown"]


class ScorecamExtension(griffe.Extension):
    """Keeps jaxtyping's shape strings as strings, sets doctests as code, and links names."""

    def on_function_instance(self, *, node: Any, func: griffe.Function, **_: Any) -> None:
        """Read a function's annotations without taking shapes for forward references."""
        given = node.args
        arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        for argument in filter(None, arguments):
            func.parameters[argument.arg].annotation = _read(argument.annotation, func)
        func.returns = _read(node.returns, func)

    def on_attribute_instance(self, *, node: Any, attr: griffe.Attribute, **_: Any) -> None:
        """Read an attribute's annotation in the same way."""
        if isinstance(node, ast.AnnAssign):
            attr.annotation = _read(node.annotation, attr)

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Link the names in a docstring, and fence each doctest, lest it be set as quotations."""
        if obj.docstring:
            linked = NAME.sub(lambda found: _linked(found[1], obj), obj.docstring.value)
            plain = FLAG.sub("", linked)
            obj.docstring.value = DOCTEST.sub(r"```pycon\n\g<0>\n```", plain)


def _linked(name: str, where: griffe.Object) -> str:
    path = _shown().get(name)
    own = {where.name, *(one.name for one in getattr(where, "parameters", ())), *where.members}
    if path is None or name in own or name in NOT_LINKED:
        return f"`{name}`"
    return f"[`{name}`][{path}]"


def _read(annotation: ast.expr | None, where: griffe.Object) -> Any:
    if annotation is None or where.parent is None:
        return None
    return griffe.get_expression(annotation, where.parent, parse_strings=False)
