"""Methods by name, with the options that their signatures accept."""

import argparse
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from scorecam_jax._internal.signatures import accepts, requires
from scorecam_jax.cli.errors import UserError
from scorecam_jax.cli.options import (
    FUSIONS,
    VARIANTS,
    add_cache,
    add_layer,
    add_model,
    add_precision,
    add_questions,
    count,
    seed,
    share,
)


class Request(NamedTuple):
    """The context in which an option is converted."""

    options: argparse.Namespace
    method: Callable[..., Any]
    classifier: Any


class MethodOption(NamedTuple):
    """An option that becomes a keyword of every method that takes it.

    Attributes:
        keyword: of the methods.
        flag: its name on the command line.
        settings: for `add_argument`. Without the option, each method's own default holds.
        convert: (value, request) -> what the method takes.
        indispensable: the value for methods that require one.
    """

    keyword: str
    flag: str
    settings: dict[str, Any]
    convert: Callable[[Any, Request], Any] = lambda value, request: value
    indispensable: Any = None

    def value(self, options: argparse.Namespace) -> Any:
        """What was given at the terminal; None if nothing was."""
        return getattr(options, self.flag.lstrip("-").replace("-", "_"), None)


def _channels(number: int, request: Request) -> Any:
    from scorecam_jax import Deviation, Gradient, Interpolated

    ways = {"interpolated": Interpolated, "deviation": Deviation, "gradient": Gradient}
    return ways.get(request.options.choose, int)(number)


def _tolerance(tolerance: float, request: Request) -> Any:
    from scorecam_jax import Interpolated

    return Interpolated(tolerance=tolerance)


def _variant(name: str, request: Request) -> Any:
    from scorecam_jax.methods.variants import BY_NAME

    return BY_NAME[name]


def _signed(wanted: bool, request: Request) -> Any:
    from scorecam_jax.methods.variants import SIGNED

    return SIGNED


def _contrast(name: str, request: Request) -> Any:
    from scorecam_jax.reading.labels import find_class
    from scorecam_jax.steps.scores import contrast

    return contrast(find_class(name, request.classifier.labels))


def _key(number: int, request: Request) -> Any:
    import jax

    return jax.random.key(number)


METHOD_OPTIONS = (
    MethodOption(
        "channels",
        "--channels",
        {
            "type": count,
            "metavar": "N",
            "help": "score only N channels (default: all); of Score-CAM, 64 give nearly the same "
            "map",
        },
        _channels,
    ),
    MethodOption(
        "channels",
        "--tolerance",
        {
            "type": share,
            "metavar": "T",
            "help": "score channels until no pixel of the heatmap has a standard deviation above "
            "T, such as 0.05",
        },
        _tolerance,
    ),
    MethodOption(
        "variant",
        "--variant",
        {
            "choices": VARIANTS,
            "metavar": "NAME",
            "help": f"which published formula of Score-CAM: {', '.join(VARIANTS)} "
            "(default: official)",
        },
        _variant,
    ),
    MethodOption(
        "variant",
        "--signed",
        {
            "action": "store_true",
            "default": None,
            "help": "Score-CAM with evidence for a class in orange and evidence against it in blue",
        },
        _signed,
    ),
    MethodOption(
        "fuse",
        "--fuse",
        {
            "choices": FUSIONS,
            "metavar": "HOW",
            "help": f"how the maps of --layers become one: {', '.join(FUSIONS)} (default: product, "
            "what all of them show; mean where all have one grid, as in a transformer)",
        },
    ),
    MethodOption(
        "score",
        "--rather-than",
        {
            "metavar": "NAME|INDEX",
            "help": "explain why a class and not this one: by the difference of their logits",
        },
        _contrast,
    ),
    MethodOption(
        "batch_size",
        "--batch-size",
        {
            "type": count,
            "metavar": "N",
            "help": "masked images per pass; memory grows with it (default: chosen for the device)",
        },
    ),
    MethodOption(
        "key",
        "--seed",
        {
            "type": seed,
            "metavar": "N",
            "help": "seed of the methods that draw at random (default: 0)",
        },
        _key,
        indispensable=0,
    ),
)


def add_how(group: Any, *, apart: bool = False) -> None:
    """Which network and layer, and every option that methods take.

    `apart`: also several layers side by side.
    """
    add_model(group)
    add_questions(group)
    add_layer(group, apart=apart)
    add_precision(group)
    for option in METHOD_OPTIONS:
        group.add_argument(option.flag, **option.settings)
    group.add_argument(
        "--choose",
        choices=["interpolated", "deviation", "gradient"],
        metavar="WAY",
        help="how --channels chooses: interpolated (the scores of the others are interpolated, "
        "and all maps summed; the default of Score-CAM), deviation (those that vary most, and no "
        "others; the default of other methods) or gradient (those that raise the score most)",
    )
    add_cache(group)


def given(options: argparse.Namespace) -> dict[str, Any]:
    """The options of methods as given, by their names on the command line."""
    values = {option.flag.lstrip("-"): option.value(options) for option in METHOD_OPTIONS}
    return {**values, "choose": options.choose}


def flags(method: Callable[..., Any]) -> list[str]:
    """The flags of the options that a method takes."""
    return [option.flag for option in METHOD_OPTIONS if accepts(method, option.keyword)]


def check_options(
    options: argparse.Namespace, names: Sequence[str], *, also: Sequence[str] = ()
) -> None:
    """Refuse an option that would have no effect.

    Args:
        options: as parsed.
        names: the methods. Each given option must be accepted by at least one of them.
        also: keywords that are used elsewhere.

    Raises:
        UserError: no method takes the option.
    """
    if options.channels is not None and options.tolerance is not None:
        raise UserError("--channels and --tolerance: give one of the two")
    if options.choose is not None and options.channels is None:
        raise UserError(f"--choose {options.choose} chooses among channels: give --channels too")
    for option in METHOD_OPTIONS:
        if option.value(options) is None or option.keyword in also:
            continue
        if not any(accepts(named(name), option.keyword) for name in names):
            if len(names) > 1:
                raise UserError(f"none of {', '.join(names)} takes {option.flag}")
            others = flags(named(names[0]))
            raise UserError(
                f"{names[0]} takes no {option.flag}"
                + (f"; it takes {', '.join(others)}" if others else "")
            )


def chosen(options: argparse.Namespace, name: str, classifier: Any) -> Callable[..., Any]:
    """A method with those of the options that it takes."""
    method = named(name)
    keywords = {}
    for option in METHOD_OPTIONS:
        value = option.value(options)
        if value is None and requires(method, option.keyword):
            value = option.indispensable
        if value is not None and accepts(method, option.keyword):
            keywords[option.keyword] = option.convert(value, Request(options, method, classifier))
    return functools.partial(method, **keywords) if keywords else method


def named(name: str) -> Callable[..., Any]:
    """The method, preset or variant of Score-CAM of this name."""
    from scorecam_jax.methods.variants import BY_NAME
    from scorecam_jax.study import OFFERED

    if name in OFFERED:
        return OFFERED[name]
    return functools.partial(OFFERED["score-cam"], variant=BY_NAME[name])
