"""What mkdocstrings has to know about this package's annotations and docstrings."""

import ast
import re
from typing import Any

import griffe

DOCTEST = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)


class ScorecamExtension(griffe.Extension):
    """Keeps jaxtyping's shape strings as strings, and sets doctests as code."""

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
        """Put a fence around each doctest, which Markdown would set as nested quotations."""
        if obj.docstring:
            obj.docstring.value = DOCTEST.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)


def _read(annotation: ast.expr | None, where: griffe.Object) -> Any:
    if annotation is None or where.parent is None:
        return None
    return griffe.get_expression(annotation, where.parent, parse_strings=False)
