"""What every adapter shares: naming layers, finding them, and showing some of them."""

import dataclasses
import difflib
import functools
import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

from scorecam_jax._internal.keys import Static
from scorecam_jax._internal.trees import cast
from scorecam_jax.adapters.adapted import Adapted, Network
from scorecam_jax.adapters.default import default_layer
from scorecam_jax.adapters.tokens import Grid, TokenView
from scorecam_jax.contract.model import AnyModel
from scorecam_jax.contract.several import split_inputs
from scorecam_jax.program.analysis import Analysis, analyse
from scorecam_jax.program.marks import Chosen, Edit, Path, expose, is_exposed, replay
from scorecam_jax.program.sites import Site, parse_runs

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
        cut: whether all that the outputs know of the image passes through it.
        alive: whether the outputs depend on what is at its places, so that a gradient can arrive.
        grid: the sizes of its grid, or of the grid that its tokens form; None if it has none that
            is known.
        default: whether it is the layer that `layer=None` explains.
    """

    path: str
    kind: str
    shape: tuple[int, ...]
    cut: bool = True
    alive: bool = True
    grid: tuple[int, ...] | None = None
    default: bool = False


def list_layers(model: AnyModel, inputs: Any) -> list[LayerInfo]:
    """The layers of `model` that can be explained, in the order in which they finish.

    Functions that directly follow a layer are listed if all that the outputs know of the image
    passes through them.

    Args:
        model: what an adapter such as `from_linen` returned (with any `layer`, or None).
        inputs: an input batch (N, *spatial, C), or its `jax.ShapeDtypeStruct`; nothing is computed.

    Raises:
        TypeError: `model` was not made by an adapter.
    """
    if not isinstance(getattr(model, "func", None), _Shown):
        raise TypeError(
            f"cannot list the layers of a {type(model).__name__}: only models made by an adapter "
            "(from_linen, from_nnx, from_equinox, from_haiku, from_keras, from_function) know "
            "their layers"
        )
    adapted: Any
    adapted, image = split_inputs(model, inputs)
    return adapted.func.layers(*adapted.args, image)


def show(
    run: Callable[[Any, Any], Any],
    weights: Any,
    layer: Layers,
    *,
    dtype: Any = None,
    grid: Grid | None = None,
    channel_axis: int = -1,
) -> Adapted:
    """The Model of a network that marks its layers.

    Args:
        run: `(weights, inputs) -> outputs`; what it holds beside functions is compared by value.
        weights: any pytree of arrays.
        layer: the path of a layer, a list of several, or None.
        dtype: what floating-point weights and inputs are cast to.
        grid: how token activations form a grid; None takes it from the layers before them.
        channel_axis: where inputs and activations have their channels.
    """
    paths = layer if isinstance(layer, list) else [layer]
    call = _Shown(
        Network(run, channel_axis),
        tuple(None if path is None else parse_path(path) for path in paths),
        isinstance(layer, list),
        dtype,
        None if grid is None else TokenView(tuple(grid), channel_axis),
        channel_axis,
    )
    return Adapted(call, cast(weights, dtype))


@dataclasses.dataclass(frozen=True)
class _Shown:
    run: Network
    paths: tuple[Path | None, ...]
    several: bool
    dtype: Any
    tokens: TokenView | None
    channel_axis: int
    outputs: tuple[int, ...] | None = None

    def __call__(self, weights: Any, inputs: Any, edit: Any = None) -> tuple[Any, Any]:
        if edit is None:
            return _read(Static(self), weights, inputs)
        return self.replay(weights, inputs, edit)

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

    def replay(self, weights: Any, inputs: Any, edit: Any) -> tuple[Any, Any]:
        traced = self._trace(weights, inputs)
        known = self._analyse(traced, weights)
        sites = [
            default_layer(known, self.tokens) if path is None else _named(path, known)
            for path in self.paths
        ]
        views = [self._view(site, known) for site in sites]
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
        return outputs, shown if self.several else shown[0]

    def layers(self, weights: Any, inputs: Any) -> list[LayerInfo]:
        known = self._analyse(self._trace(weights, inputs), weights)
        try:
            default = default_layer(known, self.tokens).name
        except ValueError:  # which explaining it says
            default = None
        return [
            LayerInfo(
                each.site.name,
                each.site.kind,
                each.site.shape,
                each.cut,
                each.alive,
                each.grid,
                each.site.name == default,
            )
            for each in known.candidates
            if each.site.layer or (each.cut and not known.is_layer(each.site))
        ]

    def _trace(self, weights: Any, inputs: Any) -> Any:
        traced = _plain.trace(Static(self), weights, inputs)
        jaxpr = traced.jaxpr
        if is_exposed(getattr(jaxpr, "jaxpr", jaxpr)):
            return traced
        chosen = tuple(parse_runs(path) for path in self.paths if path is not None)
        return _exposed.trace(Static(self), chosen, weights, inputs)

    def _analyse(self, traced: Any, weights: Any) -> Analysis:
        count = len(jax.tree.leaves(weights))
        return analyse(traced.jaxpr, count, self.channel_axis, self.outputs)

    def _view(self, site: Site, known: Analysis) -> TokenView | None:
        """How a layer's activations become a grid."""
        if self.tokens is not None:
            if self.tokens.cells:
                self._check_image(self.tokens.grid, site, known)
            return self.tokens
        found = known.describe(site)
        if len(site.shape) != len(known.shape):
            return None if found.grid is None else TokenView(found.grid, self.channel_axis)
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
        if found.channels == known.channel_axis:
            return None
        there = functools.partial(
            jnp.moveaxis, source=found.channels, destination=known.channel_axis
        )
        back = functools.partial(
            jnp.moveaxis, source=known.channel_axis, destination=found.channels
        )
        return TokenView((there, back), self.channel_axis)

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
                f"{len(self.paths)} functions, one for each (None leaves a layer as it is). To "
                "explain several layers by a method, use fuse_layers(model, inputs, method=...)"
            )
        return list(edits)


def _checked(edit: Edit, view: TokenView | None) -> Edit:
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


def _expose(shown: Static, chosen: tuple[Chosen, ...], weights: Any, inputs: Any) -> Any:
    traced = _plain.trace(shown, weights, inputs)
    jaxpr = traced.jaxpr
    arguments = jax.tree.leaves((weights, inputs))
    outputs = expose(getattr(jaxpr, "jaxpr", jaxpr), jaxpr.consts, arguments, chosen)
    return jax.tree.unflatten(jax.tree.structure(traced.out_info), outputs)


_exposed = jax.jit(_expose, static_argnums=(0, 1))

# Compiled as a whole, so that reading a layer outside jit is not one program an operation.
_read = functools.partial(jax.jit, static_argnums=0)(
    lambda shown, weights, inputs: shown.value.replay(weights, inputs, None)
)


def parse_path(layer: Layer) -> Path:
    """`"a/b"` and `("a", "b")` name the same layer."""
    return tuple(layer.split("/")) if isinstance(layer, str) else tuple(map(str, layer))


def _named(path: Path, known: Analysis) -> Site:
    """The site that a path names."""
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


def require(package: str, extra: str) -> ModuleType:
    """Import a framework; ImportError that names the extra to install if it is not there."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"from_{extra} needs {package}: pip install 'scorecam_jax[{extra}]'"
        ) from error
