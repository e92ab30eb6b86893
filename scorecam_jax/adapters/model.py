"""What every adapter shares: naming layers, finding them, and showing some of them."""

import dataclasses
import difflib
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from scorecam_jax._internal.keys import Static
from scorecam_jax._internal.notes import warn_caller
from scorecam_jax._internal.trees import cast
from scorecam_jax.adapters.adapted import Adapted, Network
from scorecam_jax.adapters.default import default_layer
from scorecam_jax.adapters.finer import layers_by_rule
from scorecam_jax.adapters.registration import AT_ONCE, Registration, registration, respond
from scorecam_jax.adapters.settle import settle
from scorecam_jax.adapters.tokens import ArrangedView, Asked, Attended, FunctionsView, Grid, View
from scorecam_jax.contract.model import AnyModel
from scorecam_jax.contract.per_input import take_rows
from scorecam_jax.contract.several import split_inputs
from scorecam_jax.program.analysis import Analysis, Candidate, analyse
from scorecam_jax.program.attention import KIND as ATTENTION
from scorecam_jax.program.attention import (
    STREAM,
    every_run,
    is_stream,
    mark_attention,
    stream_after,
)
from scorecam_jax.program.marks import Chosen, Edit, Path, expose, is_exposed, replay
from scorecam_jax.program.positions import Arrangement, arrange_as
from scorecam_jax.program.sites import Site, parse_runs
from scorecam_jax.program.streams import streams
from scorecam_jax.steps.frames import Frame, frame_of

Layer: TypeAlias = str | tuple[str | int, ...]
Layers: TypeAlias = Layer | list[Layer] | None


class LayerInfo(NamedTuple):
    """One layer of a model, as `list_layers` reports it.

    Attributes:
        path: what to pass as `layer`, for example `"layer4/block_1"`; `"layer4/norm:relu"` for the
            function that directly follows a layer, `"blocks[-1]/norm"` for the last run of one
            that runs several times.
        kind: the name of the layer's class, or of the function.
        shape: the shape of its output (of the first array, if it returns several).
        cut: whether all information that reaches the outputs from the image passes through it.
        alive: whether the outputs depend on its places, so that they can have a gradient.
        grid: the sizes of its grid, or of the grid that its tokens form; None if it has none or it
            is unknown.
        default: whether it is the layer that `layer=None` explains.
        registration: how its cells lie in the image, if that was measured.
        shown: whether it is among the layers that this model shows, named or by rule.
    """

    path: str
    kind: str
    shape: tuple[int, ...]
    cut: bool = True
    alive: bool = True
    grid: tuple[int, ...] | None = None
    default: bool = False
    registration: Registration | None = None
    shown: bool = False


def list_layers(model: AnyModel, inputs: Any, *, measure: bool = False) -> list[LayerInfo]:
    """The layers of `model` that can be explained, in the order in which they finish.

    Functions that directly follow a layer are listed if all information that reaches the outputs
    passes through them.

    Args:
        model: what an adapter such as `from_linen` returned (with any `layer`, or None).
        inputs: an input batch (N, *spatial, C), or its `jax.ShapeDtypeStruct`.
        measure: measure which part of the image each layer's cells see, in 28 forward passes for
            all layers together; see `registration`. Otherwise nothing is computed.

    Raises:
        TypeError: `model` was not made by an adapter.
        ValueError: `measure` is True and the inputs' values are unknown.
    """
    if not isinstance(getattr(model, "func", None), _Shown):
        raise TypeError(
            f"cannot list the layers of a {type(model).__name__}: only models made by an adapter "
            "(from_linen, from_nnx, from_equinox, from_haiku, from_keras, from_function) know "
            "their layers"
        )
    adapted: Any
    adapted, image = split_inputs(model, inputs)
    return adapted.func.layers(*adapted.args, image, measure)


def with_layers(model: AnyModel, count: int) -> AnyModel:
    """Show further layers before the one that a model shows, chosen by rule as `layers=count` does.

    Args:
        model: what an adapter such as `from_linen` returned, with a single layer or the default.
        count: how many layers.

    Raises:
        TypeError: `model` was not made by an adapter.
        ValueError: it shows several layers already, or `count` is not a number from 1 up.
    """
    call: Any = getattr(model, "func", None)
    if not isinstance(call, _Shown):
        raise TypeError(
            f"cannot choose layers of a {type(model).__name__}: only models made by an adapter "
            "know their layers. A function may return a tuple of the activations of several"
        )
    _check_count(count, [*filter(None, call.paths)] if call.several else None)
    paths = (*[None] * (count - 1), *call.paths)
    shown = dataclasses.replace(call, paths=paths, several=count > 1, by_rule=True, settled=())
    adapted: Any = model
    return Adapted(shown, *adapted.args)


def at_layer(model: AnyModel, layer: str) -> AnyModel:
    """Show another layer of a model's network.

    Args:
        model: what an adapter such as `from_linen` returned.
        layer: its path, as `list_layers` names it.

    Raises:
        TypeError: `model` was not made by an adapter.
    """
    call: Any = getattr(model, "func", None)
    if not isinstance(call, _Shown):
        raise TypeError(
            f"cannot choose layers of a {type(model).__name__}: only models made by an adapter "
            "know their layers"
        )
    paths = (parse_path(layer),)
    shown = dataclasses.replace(call, paths=paths, several=False, by_rule=False, settled=())
    adapted: Any = model
    return Adapted(shown, *adapted.args)


def register(model: AnyModel, inputs: Any) -> AnyModel:
    """Measure where a model's layers lie in the image, if the program does not show it.

    Methods do this themselves when they are called eagerly, once for each program and shape. Call
    this before `jit`, in which values are unknown, and pass the model that it returns:

        model = register(model, inputs)
        explanation = jax.jit(score_cam)(model, inputs)

    Args:
        model: what an adapter such as `from_linen` returned. Any other is returned as it is.
        inputs: as the model is called with, at least one.

    Returns:
        The model with the arrangement of each layer that fits what was measured.

    Raises:
        ValueError: a layer does not lie over the image.
    """
    adapted: Any
    adapted, image = split_inputs(model, inputs)
    return adapted.measured(image) if isinstance(adapted, Adapted) else adapted


def show_attention(model: AnyModel, inputs: Any) -> AnyModel:
    """The model with all of its attention matrices shown, whatever layer it was made with.

    They are found in the traced program by their properties: an operand of a product that is
    nonnegative and sums to 1 along the keys. Each can also be shown alone, like any layer;
    `list_layers` gives its name, such as `"blocks/3/attention"`.

    Args:
        model: what an adapter such as `from_linen` returned.
        inputs: an input batch (N, *spatial, C), or its `jax.ShapeDtypeStruct`.

    Returns:
        A `Model` whose activations are a tuple of matrices (N, heads, queries, keys), in the order
        in which they are used; (N, windows, heads, queries, keys) if there are windows. It can be
        edited, and differentiated by its matrices, as models of several layers can.

    Raises:
        TypeError: `model` was not made by an adapter.
        ValueError: the network has no attention matrix.
    """
    if not isinstance(getattr(model, "func", None), _Shown):
        raise TypeError(
            f"cannot find the attention of a {type(model).__name__}: only models made by an "
            "adapter (from_linen, from_nnx, from_equinox, from_haiku, from_keras, from_function) "
            "can be looked into. A function may itself return (outputs, (matrix, ...))"
        )
    adapted: Any
    adapted, image = split_inputs(model, inputs)
    shown = adapted.func.show_attention(*adapted.args, image)
    return Adapted(shown, *adapted.args)


def show(
    run: Callable[[Any, Any], Any],
    weights: Any,
    layer: Layers,
    *,
    layers: int | None = None,
    dtype: Any = None,
    grid: Grid | None = None,
    channel_axis: int = -1,
) -> Adapted:
    """The Model of a network that marks its layers.

    Args:
        run: `(weights, inputs) -> outputs`; what it holds beside functions is compared by value.
        weights: any pytree of arrays.
        layer: the path of a layer, a list of several, or None.
        layers: how many layers to show by rule: that one and others before it; see
            `layers_by_rule`.
        dtype: what floating-point weights and inputs are cast to.
        grid: how token activations form a grid; None takes it from the layers before them.
        channel_axis: where inputs and activations have their channels.
    """
    paths: list[Layer | None] = list(layer) if isinstance(layer, list) else [layer]
    several = isinstance(layer, list)
    if layers is not None:
        _check_count(layers, layer)
        paths, several = [None] * (layers - 1) + [*paths], layers > 1
    call = _Shown(
        Network(run, channel_axis),
        tuple(None if path is None else parse_path(path) for path in paths),
        several,
        dtype,
        None if grid is None else Asked(tuple(grid)),
        channel_axis,
        by_rule=layers is not None,
    )
    return Adapted(call, cast(weights, dtype))


def _check_count(layers: Any, layer: Layers) -> None:
    if isinstance(layer, list):
        raise ValueError(
            f"layer={layer!r} names several layers, and layers={layers!r} chooses some by rule: "
            "leave out one of the two, or name the last layer alone"
        )
    if isinstance(layers, bool) or not isinstance(layers, int | np.integer) or layers < 1:
        raise ValueError(
            f"layers={layers!r}, wanted how many layers to explain together: 1 for one alone, 2 "
            "with the one before it on a finer grid. To name layers, pass layer=[...]"
        )


@dataclasses.dataclass(frozen=True)
class _Shown:
    run: Network
    paths: tuple[Path | None, ...]
    several: bool
    dtype: Any
    tokens: Asked | None
    channel_axis: int
    outputs: tuple[int, ...] | None = None
    settled: tuple[Arrangement | None, ...] = ()
    by_rule: bool = False
    attends: bool = False

    def __call__(self, weights: Any, inputs: Any, edit: Any = None) -> tuple[Any, Any]:
        shown = self.register(weights, inputs)
        if edit is None:
            return _read(Static(shown), weights, inputs)
        return shown.replay(weights, inputs, edit)

    def follow_score(self, model: Any, score: Callable[[Any], Any], inputs: Any) -> Any:
        """The model with its default layer chosen for those outputs that a score reads.

        Without this, the default is a layer that all floating-point outputs pass through.
        """
        if None not in self.paths:
            return model
        outputs = jax.eval_shape(model, inputs)[0]
        if len(jax.tree.leaves(outputs)) < 2:
            return model
        try:
            read = jax.make_jaxpr(score)(outputs).jaxpr
        except Exception:  # which is told where the outputs are scored
            return model
        used = {atom for eqn in read.eqns for atom in eqn.invars if not isinstance(atom, Literal)}
        used |= {atom for atom in read.outvars if not isinstance(atom, Literal)}
        chosen = tuple(i for i, variable in enumerate(read.invars) if variable in used)
        return type(model)(dataclasses.replace(self, outputs=chosen), *model.args)

    def replay(self, weights: Any, inputs: Any, edit: Any, raw: bool = False) -> tuple[Any, Any]:
        traced, known, sites = self._sites(weights, inputs)
        views = [
            None if raw else self._place(number, site, known).view
            for number, site in enumerate(sites)
        ]
        edits = [
            None if edit is None else _checked(edit, view)
            for edit, view in zip(self._edits(edit), views, strict=True)
        ]
        arguments = jax.tree.map(jnp.asarray, jax.tree.leaves((weights, inputs)))
        jaxpr = traced.jaxpr
        outputs, seen = replay(
            getattr(jaxpr, "jaxpr", jaxpr),
            jaxpr.consts,
            arguments,
            {site.variable: edit for site, edit in zip(sites, edits, strict=True)},
        )
        shown = tuple(
            view.to_grid(activations) if view else activations
            for activations, view in zip(seen, views, strict=True)
        )
        outputs = jax.tree.unflatten(jax.tree.structure(traced.out_info), outputs)
        return outputs, shown if self.several or raw else shown[0]

    def frames(self, weights: Any, inputs: Any) -> tuple[Frame | None, ...]:
        """Where in the image each layer's map belongs; None for all of it."""
        _, known, sites = self._sites(weights, inputs)
        for site in sites:
            if site.kind == ATTENTION:
                raise ValueError(_no_grid(site))
        places = [self._place(number, site, known) for number, site in enumerate(sites)]
        return tuple(
            place.arrangement and frame_of(place.arrangement.box, known.positions.seen, known.space)
            for place in places
        )

    def register(self, weights: Any, inputs: Any) -> "_Shown":
        """The same, with its layers' places measured where the program does not tell them."""
        if self.settled or not _is_measurable((weights, inputs)) or not len(inputs):
            return self
        shapes = jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf)), weights)
        key = Static((self, shapes, inputs.shape[1:], inputs.dtype))
        if key not in _SETTLED:
            if len(_SETTLED) >= _MOST_SETTLED:
                _SETTLED.pop(next(iter(_SETTLED)))
            _SETTLED[key] = self._measure(weights, inputs)
        settled = _SETTLED[key]
        return dataclasses.replace(self, settled=settled) if any(settled) else self

    def show_attention(self, weights: Any, inputs: Any, streams: bool = False) -> "_Shown":
        """The same, with all attention matrices as its layers, and the tokens after each."""
        shown = dataclasses.replace(self, attends=True, several=True, by_rule=False, settled=())
        marked = shown._source(weights, inputs).jaxpr
        runs = tuple(map(_named_run, every_run(getattr(marked, "jaxpr", marked), ATTENTION)))
        shown = dataclasses.replace(shown, paths=runs)
        known = shown._analyse(shown._trace(weights, inputs), weights)
        paths = tuple(site.path for site in known.sites if site.kind == ATTENTION)
        if not paths:
            raise ValueError(
                "the network has no attention matrix: no operand of a product is positive and sums "
                "to 1 along the axis that is contracted, with a row for each of several tokens. "
                "Attention that is never put together (linear, flash, or in chunks) is not found; "
                "methods such as score_cam and grad_cam explain layers"
            )
        if streams:  # what pools the tokens by learned queries returns none
            square = [
                site.path
                for site in known.sites
                if site.kind == ATTENTION and site.shape[-1] == site.shape[-2]
            ]
            paths = tuple(each for path in square for each in (path, stream_after(path)))
        return dataclasses.replace(shown, paths=paths)

    def before_attention(self, weights: Any, inputs: Any) -> tuple["_Shown", View]:
        """The same, with the tokens ahead of the last attention and what it reads of them."""
        shown = self.show_attention(weights, inputs)
        known = shown._analyse(shown._trace(weights, inputs), weights)
        sites = [site for site in known.sites if site.kind == ATTENTION]
        if len(sites) < 2:
            raise ValueError(
                f"the network has a single attention matrix, {sites[0].name!r}, wanted several: "
                "the tokens ahead of the last one are found as what the block before it returns"
            )
        stream = stream_after(sites[-2].path)
        view = shown.attended(weights, inputs)[-1].keys
        if view is None:
            raise ValueError(
                f"the tokens of {sites[-1].name!r} {sites[-1].shape} form no grid that is known: "
                "pass grid=(height, width), the numbers of patches, to the adapter"
            )
        norm = known.read_by(sites[-1], stream)
        paths = (stream, norm.path)
        return dataclasses.replace(shown, paths=paths), view

    def attended(self, weights: Any, inputs: Any) -> tuple[Attended, ...]:
        """Of each attention matrix shown, how its tokens lie over the image."""
        known = self._analyse(self._trace(weights, inputs), weights)
        found = []
        for site in (self._site(path, known) for path in self.paths):
            if site.kind != ATTENTION:
                found.append(Attended(site.name, None, None, True))
                continue
            keys = known.describe(site).arrangement
            if self.tokens is not None and self.tokens.cells is not None:
                keys = self.tokens.arrange((*site.shape[:1], site.shape[-1], 1), known.space)
            frame = keys and frame_of(keys.box, known.positions.seen, known.space)
            view: View | None = keys and ArrangedView(keys, -1)
            if self.tokens is not None and self.tokens.cells is None:
                view = FunctionsView(*self.tokens.grid)
            found.append(Attended(site.name, view, frame, known.reads_every_query(site)))
        return tuple(found)

    def _measure(self, weights: Any, inputs: Any) -> tuple[Arrangement | None, ...]:
        _, known, sites = self._sites(weights, inputs)
        self._warn_of_streams(sites, known)
        places = [self._place(number, site, known) for number, site in enumerate(sites)]
        doubtful = {i: p.arrangement for i, p in enumerate(places) if p.guessed and p.arrangement}
        if not doubtful:
            return ()
        rows = take_rows(weights, jnp.zeros(AT_ONCE, int))
        responses = respond(
            lambda images: [_raw(Static(self), rows, images)[number] for number in doubtful],
            inputs[:1],
            self.channel_axis,
            [arrangement.channels for arrangement in doubtful.values()],
        )
        found: list[Arrangement | None] = [None] * len(sites)
        for (number, proposed), response in zip(doubtful.items(), responses, strict=True):
            best, measured = settle(proposed, response, known.space, places[number].told)
            if not measured.aligned and measured.measurable:
                told = _not_confirmed(sites[number], measured)
                if not places[number].told:
                    raise ValueError(told)
                warn_caller(told)
            found[number] = best if best != proposed and measured.aligned else None
        return tuple(found)

    def _warn_of_streams(self, sites: list[Site], known: Analysis) -> None:
        for path, site in zip(self.paths, sites, strict=True):
            usual = path is None and (not self.by_rule or site is sites[-1])
            parted = streams(known, known.describe(site)) if usual else []
            if len(parted) > 1:
                names = [each.site.name for each in parted]
                warn_caller(
                    f"layer {site.name!r} {site.shape} is the only place that all the outputs know "
                    f"of the image passes through, and it is early: after it the network parts "
                    f"into streams that are pooled apart. layer={names} explains the streams "
                    f"together; layer={site.name!r} keeps this one without a warning",
                )

    def _sites(self, weights: Any, inputs: Any) -> tuple[Any, Analysis, list[Site]]:
        """The traced network with the shown layers outside of loops, what is known of it, and they.

        The rule chooses among all runs of a loop. Then the other runs stay in it.
        """
        traced = self._trace(weights, inputs)
        if not self.by_rule:
            known = self._analyse(traced, weights)
            return traced, known, [self._site(path, known) for path in self.paths]
        marked = self._source(weights, inputs).jaxpr
        runs = every_run(getattr(marked, "jaxpr", marked)) if self.several else ()
        if runs:
            traced = _exposed.trace(Static(self), runs, weights, inputs)
        known = self._analyse(traced, weights)
        last = self._site(self.paths[-1], known)
        sites = layers_by_rule(known, self.tokens, last, len(self.paths))
        if runs:
            paths = tuple(site.path for site in sites)
            named = dataclasses.replace(self, paths=paths, by_rule=False)
            return named._sites(weights, inputs)
        return traced, known, sites

    def _site(self, path: Path | None, known: Analysis) -> Site:
        return default_layer(known, self.tokens) if path is None else _named(path, known)

    def layers(self, weights: Any, inputs: Any, measure: bool = False) -> list[LayerInfo]:
        attending = dataclasses.replace(self, attends=True)
        known = self._analyse(attending._trace(weights, inputs), weights)
        try:
            default = default_layer(known, self.tokens).name
        except ValueError:  # which explaining it says
            default = None
        try:
            shown = {site.name for site in self._sites(weights, inputs)[-1]}
        except ValueError:
            shown = set()
        listed = [
            LayerInfo(
                each.site.name,
                each.site.kind,
                each.site.shape,
                each.cut,
                each.alive,
                each.grid,
                each.site.name == default,
                shown=each.site.name in shown,
            )
            for each in known.candidates
            if each.site.layer or (each.cut and not known.is_layer(each.site))
        ]
        if not measure:
            return listed
        grids = [
            layer.path for layer in listed if layer.grid and layer.alive and layer.kind != ATTENTION
        ]
        paths = tuple(map(parse_path, grids))
        every = dataclasses.replace(
            self, paths=paths, several=True, by_rule=False, tokens=None, settled=()
        )
        found = dict(zip(grids, registration(Adapted(every, weights), inputs), strict=True))
        return [layer._replace(registration=found.get(layer.path)) for layer in listed]

    def _trace(self, weights: Any, inputs: Any) -> Any:
        traced = self._source(weights, inputs)
        jaxpr = traced.jaxpr
        if is_exposed(getattr(jaxpr, "jaxpr", jaxpr)):
            return traced
        chosen = tuple(parse_runs(path) for path in self.paths if path is not None)
        return _exposed.trace(Static(self), chosen, weights, inputs)

    def _source(self, weights: Any, inputs: Any) -> Any:
        """The traced network, with attention matrices marked if they are asked for."""
        names = (path[-1].partition("[")[0] for path in self.paths if path)
        if self.attends or "attention" in names:
            return _attentive.trace(Static(self), weights, inputs)
        return _plain.trace(Static(self), weights, inputs)

    def _analyse(self, traced: Any, weights: Any) -> Analysis:
        count = len(jax.tree.leaves(weights))
        return analyse(traced.jaxpr, count, self.channel_axis, self.outputs)

    def _place(self, number: int, site: Site, known: Analysis) -> "_Place":
        """How a layer's activations become a grid, and how that lies over the image."""
        if site.kind in (ATTENTION, STREAM):
            return _Place(None, None, False, False)
        if self.tokens is not None and self.tokens.cells is None:
            return _Place(FunctionsView(*self.tokens.grid), None, False, False)
        found = known.describe(site)
        told = found.arrangement
        arrangement = self.settled[number] if self.settled else None
        if arrangement is not None:
            told = arrangement
        elif self.tokens is not None:
            self._check_image(self.tokens.grid, site, known)
            if told is None or told.grid != self.tokens.grid:
                told, arrangement = None, self.tokens.arrange(site.shape, known.space)
            else:
                arrangement = told
        else:
            arrangement = told or self._guess(site, found, known)
        if arrangement is None:
            return _Place(None, None, False, False)
        usual = arrangement.lies_as_usual(known.space)
        plain = arrangement.is_plain(site.shape, known.channel_axis)
        view = None if plain else ArrangedView(arrangement, self.channel_axis)
        return _Place(view, arrangement, told is None or not usual, told is not None)

    def _guess(self, site: Site, found: Candidate, known: Analysis) -> Arrangement | None:
        """What the shape of activations suggests."""
        rank = len(known.space)
        if len(site.shape) != len(known.shape):
            if found.grid is None:
                return None
            first = site.shape[1] - math.prod(found.grid)
            return arrange_as(known.space, found.grid, [range(rank)], 2, first)
        if found.grid is None and known.layout(site.shape, cut=True)[0]:
            raise ValueError(
                f"the activations of layer {site.name!r} have shape {site.shape}, which is no grid "
                f"like the image's {known.shape} with channels at axis {known.channel_axis}, but "
                f"one with channels at axis {known.other_axis}: pass grid=(to_grid, from_grid), "
                "two functions that move the axis there and back"
            )
        if found.grid is None:
            for grid in (site.shape[1:-1], site.shape[2:]):
                self._check_image(grid, site, known)
        grid = tuple(
            size for axis, size in enumerate(site.shape) if axis not in (0, found.channels)
        )
        if math.prod(grid) < 2:
            return None
        return arrange_as(known.space, grid, [[axis] for axis in range(rank)], found.channels)

    def _check_image(self, grid: tuple[int, ...], site: Site, known: Analysis) -> None:
        if known.misreads_image(grid):
            raise ValueError(
                f"layer {site.name!r} {site.shape} has a grid {grid} like the image's "
                f"{known.shape} if that has its channels at axis {known.other_axis}, not at "
                f"{known.channel_axis}: pass channel_axis={1 if known.other_axis == 1 else -1} to "
                "the adapter"
            )

    def _edits(self, edit: Any) -> list[Edit | None]:
        edits = edit if self.several and edit is not None else [edit] * len(self.paths)
        if callable(edits) or len(edits) != len(self.paths):
            raise TypeError(
                f"this model shows {len(self.paths)} layers, so edit takes a tuple of "
                f"{len(self.paths)} functions, one for each (None leaves a layer as it is)"
            )
        return list(edits)


class _Place(NamedTuple):
    """How a layer's activations are shown.

    Attributes:
        view: what makes a grid of them; None if they are one.
        arrangement: how they lie over the image, if that is known or guessed.
        guessed: whether that is to be measured.
        told: whether the program tells it.
    """

    view: View | None
    arrangement: Arrangement | None
    guessed: bool
    told: bool


def _checked(edit: Edit, view: View | None) -> Edit:
    """An edit of a grid as an edit of what the layer returned."""

    def checked(activations: jax.Array) -> jax.Array:
        seen = view.to_grid(activations) if view else activations
        edited = jnp.asarray(edit(seen))
        if edited.shape != seen.shape:
            raise ValueError(
                f"edit returned shape {edited.shape}, wanted the activations' {seen.shape}"
            )
        edited = edited.astype(seen.dtype)
        return view.from_grid(edited, activations) if view else edited

    return checked


# Traced once for each shape, however often a method reads.
_plain = functools.partial(jax.jit, static_argnums=0)(
    lambda shown, weights, inputs: shown.value.run(weights, cast(inputs, shown.value.dtype))
)


def _mark_attention(shown: Static, weights: Any, inputs: Any) -> Any:
    traced = _plain.trace(shown, weights, inputs)
    jaxpr, count = traced.jaxpr, len(jax.tree.leaves(weights))
    arguments = jax.tree.leaves((weights, inputs))
    outputs = mark_attention(getattr(jaxpr, "jaxpr", jaxpr), jaxpr.consts, arguments, count)
    return jax.tree.unflatten(jax.tree.structure(traced.out_info), outputs)


_attentive = jax.jit(_mark_attention, static_argnums=0)


def _expose(shown: Static, chosen: tuple[Chosen, ...], weights: Any, inputs: Any) -> Any:
    traced = shown.value._source(weights, inputs)
    jaxpr = traced.jaxpr
    arguments = jax.tree.leaves((weights, inputs))
    outputs = expose(getattr(jaxpr, "jaxpr", jaxpr), jaxpr.consts, arguments, chosen)
    return jax.tree.unflatten(jax.tree.structure(traced.out_info), outputs)


_exposed = jax.jit(_expose, static_argnums=(0, 1))

# Compiled as a whole, so that reading a layer outside jit is not one program an operation.
_read = functools.partial(jax.jit, static_argnums=0)(
    lambda shown, weights, inputs: shown.value.replay(weights, inputs, None)
)
_raw = functools.partial(jax.jit, static_argnums=0)(
    lambda shown, weights, inputs: shown.value.replay(weights, inputs, None, raw=True)[1]
)


def _named_run(chosen: Chosen) -> Path:
    """A path that names a run: which of its names has the brackets makes no difference."""
    return (*chosen.path[:-1], chosen.path[-1] + "".join(f"[{run}]" for run in chosen.runs))


def _no_grid(site: Site) -> str:
    return (
        f"layer {site.name!r} {site.shape} is an attention matrix, and this method explains "
        "activations on a grid: use attention_rollout, generic_attention, raw_attention or legrad, "
        "which find attention themselves, or name another layer"
    )


def _not_confirmed(site: Site, measured: Registration) -> str:
    return (
        f"layer {site.name!r} {site.shape} does not lie over the image: {measured}. A map of it "
        "would be drawn in the wrong place. Name another layer with layer=, list_layers(model, "
        "inputs, measure=True) tells which would do; or tell how its activations form a grid, "
        "grid=(height, width) for tokens row by row, or grid=(to_grid, from_grid), two functions"
    )


# What was measured, by program and shape.
_SETTLED: dict[Static, tuple[Arrangement | None, ...]] = {}
_MOST_SETTLED = 256


def _is_measurable(values: Any) -> bool:
    """Whether arrays are known, and on devices of this process."""
    return all(
        not isinstance(leaf, jax.core.Tracer | jax.ShapeDtypeStruct)
        and (not isinstance(leaf, jax.Array) or _is_here(leaf))
        for leaf in jax.tree.leaves(values)
    )


def _is_here(array: jax.Array) -> bool:
    spec = getattr(jax.typeof(array).sharding, "spec", ())
    return array.is_fully_addressable and all(axis is None for axis in spec)


def parse_path(layer: Layer) -> Path:
    """`"a/b"` and `("a", "b")` name the same layer."""
    return tuple(layer.split("/")) if isinstance(layer, str) else tuple(map(str, layer))


def _named(path: Path, known: Analysis) -> Site:
    """The site that a path names."""
    if is_stream(path):
        return known.stream(path)
    name = "/".join(path)
    literal = [site for site in known.sites if site.path == path and "[" in name]
    wanted = parse_runs(path)
    alike = [site for site in known.sites if parse_runs(site.path).path == wanted.path]
    runs = [site for site in literal or alike if literal or _is_run(site, wanted)]
    if len(runs) == 1 and (wanted.runs or len(alike) == 1):
        _check_alive(runs[0], known)
        return runs[0]
    if not alike:
        raise _unknown(path, known)
    inside = {site.inside for site in alike} - {""}
    outside = [site for site in alike if not site.inside]
    if not outside:
        raise ValueError(
            f"layer {name!r} runs inside {min(inside)}, which keeps its activations in; name a "
            "layer around it"
        )
    last = outside[-1]
    where = f"runs inside {min(inside)}" if inside else "is called more than once"
    counts = ", ".join(str(run.total) for run in last.runs)
    raise ValueError(
        f"layer {name!r} {where} in a forward pass ({counts} runs), so which activations are meant "
        f"is ambiguous: name one run, {last.name!r} for the last, or a layer around it"
    )


def _is_run(site: Site, wanted: Chosen) -> bool:
    return (
        not site.inside
        and len(site.runs) == len(wanted.runs)
        and all(
            -run.total <= index < run.total and index % run.total == run.which
            for run, index in zip(site.runs, wanted.runs, strict=True)
        )
    )


def _check_alive(site: Site, known: Analysis) -> None:
    # Outputs of another shape are complained of where they are scored.
    if not known.outputs or known.describe(site).alive:
        return
    raise ValueError(
        f"the outputs do not depend on what is at the places of layer {site.name!r} {site.shape}: "
        "after it the network reads only some of them, such as a class token, or nothing at all, "
        "so a map of this layer would say nothing about the outputs. Name a layer before the last "
        "attention, or pass layer=None; list_layers(model, inputs) says of each whether it is alive"
    )


def _unknown(path: Path, known: Analysis) -> ValueError:
    """The error for a name that nothing has."""
    name = "/".join(path)
    layer, colon, function = name.partition(":")
    follows = [site.name for site in known.sites if site.name.startswith(f"{layer}:")]
    if colon and any(site.name == layer for site in known.sites):
        hint = (
            f"what follows is {', '.join(map(repr, follows))}"
            if follows
            else ("no function that is known by name follows it, or not only that")
        )
        return ValueError(f"layer {layer!r} is not directly followed by {function}: {hint}")
    return unknown_layer(
        name, [LayerInfo(site.name, site.kind, site.shape) for site in known.sites if site.layer]
    )


def unknown_layer(name: str, layers: list[LayerInfo]) -> ValueError:
    """The error for a layer that the forward pass never runs, naming the nearest ones."""
    names = [layer.path for layer in layers]
    near = difflib.get_close_matches(name, names, n=5, cutoff=0.4)
    near += [other for other in names if name in other and other not in near][: 5 - len(near)]
    hint = f"Nearest: {', '.join(map(repr, near))}" if near else f"Layers: {_listing(layers)}"
    return ValueError(
        f"no layer {name!r} runs in this model's forward pass. {hint}. "
        "list_layers(model, inputs) shows them all."
    )


def _listing(layers: list[LayerInfo]) -> str:
    return ", ".join(f"{layer.path!r} {layer.shape}" for layer in layers[-12:]) or "none"
