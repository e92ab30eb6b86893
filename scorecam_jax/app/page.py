"""The page: its components and event handlers. Only this file needs Gradio."""

import contextlib
import html
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from scorecam_jax import samples
from scorecam_jax.app import engine, files, pictures
from scorecam_jax.app.engine import Answer, Networks
from scorecam_jax.app.pictures import Style
from scorecam_jax.app.question import (
    Corners,
    Question,
    class_called,
    class_names,
    suggestions,
)
from scorecam_jax.reading import ReadingError, read_picture
from scorecam_jax.visualize import COLORMAPS

MOST_BYTES = 20 * 2**20
"""The maximum size of a photograph's file, in bytes."""

MOST_PIXELS = 50_000_000
"""The maximum number of pixels of a photograph. Reading more takes over half a gigabyte."""

_TOGETHER = 4
_WAITING = 32
_KEPT_SECONDS = 3600

_STYLE = """
.gradio-container { max-width: 1240px !important; margin: auto !important; }
#result img, #beside img { width: 100%; height: 100%; object-fit: contain; cursor: crosshair; }
#beside img { cursor: auto; }
.status { display: flex; gap: .2em .8em; align-items: center; min-height: 2.2em; flex-wrap: wrap; }
.status p { margin: 0; flex: 1 1 14em; }
.status .bar { flex: 0 0 10em; height: .5em; border-radius: .25em; overflow: hidden;
  background: var(--border-color-primary); }
.status .bar i { display: block; height: 100%; background: var(--color-accent); }
.status .busy i { width: 40%; animation: pace 1.2s ease-in-out infinite alternate; }
@keyframes pace { to { margin-left: 60%; } }
@media (max-width: 640px) {
  #samples { max-width: calc(100vw - 4rem); }
  #samples .gallery { flex-wrap: nowrap; overflow-x: auto; align-items: center; }
  #samples .gallery > * { flex: none; }
  #photo, #result, #beside { height: 300px !important; }
}
.status .wrong { color: var(--error-text-color, #b91c1c); white-space: pre-line; }
"""


class Kept(NamedTuple):
    """The state of a session.

    Attributes:
        answers: the answers to the last question; two if two photographs explain each other.
        photo: the photograph on the page.
        size: the photograph's width and height.
        corner: the first corner of an unfinished box, in the photograph's pixels.
        box: the last box drawn on the photograph.
    """

    answers: tuple[Answer, ...] = ()
    photo: Path | None = None
    size: tuple[int, int] = (1, 1)
    corner: tuple[float, float] | None = None
    box: Corners | None = None


class Sessions:
    """The last question of each session; earlier ones are abandoned."""

    def __init__(self) -> None:
        self._last: dict[str | None, object | None] = {}

    def begin(self, session: str | None) -> object:
        """Begin a new question, and return its token."""
        self._last[session] = mine = object()
        return mine

    def is_last(self, session: str | None, mine: object) -> bool:
        """Whether no other question was asked since, and this one was not stopped."""
        return self._last.get(session) is mine

    def is_stopped(self, session: str | None) -> bool:
        """Whether the last question was stopped."""
        return session in self._last and self._last[session] is None

    def stop(self, session: str | None) -> None:
        """Stop the last question."""
        self._last[session] = None

    def end(self, session: str | None) -> None:
        """Forget a session, and abandon its question."""
        self._last.pop(session, None)


def launch(
    networks: Networks,
    *,
    host: str | None = "127.0.0.1",
    port: int | None = None,
    inbrowser: bool = False,
) -> tuple[Any, str]:
    """Serve the page in background threads.

    From then on, the whole process refuses pictures of more than `MOST_PIXELS`.

    Args:
        networks: the networks that answer questions.
        host: the address to listen on; None: `GRADIO_SERVER_NAME`, or this machine's.
        port: the port; None: the first free one from 7860 on.
        inbrowser: whether to open the page in a browser.

    Returns:
        The page, whose `close()` ends it, and the page's address.

    Raises:
        ImportError: Gradio is not installed.
        OSError: the port is taken.
    """
    page = build(networks)
    gradio = installed()
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS // 2  # Pillow itself refuses twice as many
    _, address, _ = page.queue(max_size=_WAITING, default_concurrency_limit=_TOGETHER).launch(
        server_name=host,
        server_port=port,
        inbrowser=inbrowser,
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        show_error=True,
        ssr_mode=False,
        run_history=False,
        enable_monitoring=False,
        max_file_size=MOST_BYTES,
        state_session_capacity=100,
        footer_links=[],
        theme=_theme(gradio),
        css=_STYLE,
    )
    return page, address


def installed() -> Any:
    """Import Gradio, with its analytics disabled.

    Raises:
        ImportError: Gradio is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError as error:
        raise ImportError(
            "the app is a page made with Gradio: pip install 'scorecam_jax[app]'"
        ) from error
    return gradio


def _theme(gradio: Any) -> Any:
    """Gradio's default theme with system fonts, so that no font is downloaded."""
    return gradio.themes.Default(
        primary_hue="violet",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )


def build(networks: Networks) -> Any:
    """Build the page, a `gradio.Blocks`.

    Raises:
        ImportError: Gradio is not installed.
    """
    installed()
    import gradio as gr

    labels = networks.usual.labels
    sessions = Sessions()
    private: dict[str, Any] = {"api_visibility": "private"}
    small: dict[str, Any] = {"size": "sm", "scale": 0, "min_width": 90}

    async def uploaded(path: Any) -> str:
        """The file of an upload; Gradio's own function would also download a URL."""
        if str(path).lower().startswith(("http:", "https:")):
            raise gr.Error("photographs must be uploaded; addresses are not fetched")
        return str(path)

    def drawn(kept: Kept, style: Style, status: str, *, busy: bool) -> dict[Any, Any]:
        """The page's updates for the answers so far."""
        first, *others = kept.answers
        shown: dict[Any, Any] = {
            result: pictures.draw(first, style),
            beside: gr.update(visible=bool(others)),
            state: kept,
            says: status,
            cancel: gr.update(visible=busy),
            code: files.as_python(first, style, networks.source),
            keep: gr.update(interactive=True),
            unbox: gr.update(visible=first.question.box is not None),
        }
        if others:
            shown[beside] = gr.update(value=pictures.draw(others[0], style), visible=True)
        if not first.question.like:
            shown[top] = pictures.likeliest(first)
        return shown

    def wrong(problem: object) -> dict[Any, Any]:
        return {
            says: _status(str(problem), wrong=True),
            cancel: gr.update(visible=False),
        }

    def explain(
        photo: dict[str, Any] | None, like: dict[str, Any] | None, name: str | None,
        other: str | None, method: str, layer: str | None, layers: int, colormap: str,
        alpha: float, threshold: float, kept: Kept, request: gr.Request,
    ) -> Iterator[dict[Any, Any]]:  # fmt: skip
        mine = sessions.begin(request.session_hash)
        style = Style(colormap, alpha, threshold)
        if not photo:
            yield {cancel: gr.update(visible=False)}
            return
        path = Path(photo["path"])
        box = kept.box if kept.photo == path else None
        question = Question(
            path, name or "", other or "", method, layer or None, int(layers),
            Path(like["path"]) if like else None, box,
        )  # fmt: skip
        asked = [question]
        if question.like:
            asked.append(question._replace(photo=question.like, like=question.photo, box=None))
        yield {
            says: _status("Looking …", busy=True),
            cancel: gr.update(visible=True),
            maybe: gr.update(visible=False),
            classes: gr.update(visible=bool(labels) and not question.like),
            beside: gr.update(visible=bool(question.like)),
            kept_files: gr.update(value=None, visible=False),
        }
        found: dict[int, Answer] = {}
        try:
            if not labels and not question.like:
                raise ValueError(
                    "This network has no classes. Give a second photograph below: the map then "
                    "shows what makes this one like it."
                )
            with contextlib.closing(engine.in_turn(networks, asked)) as each:
                for place, answer in each:
                    if not sessions.is_last(request.session_hash, mine):
                        if sessions.is_stopped(request.session_hash):
                            yield stopped(found.values())
                        return
                    new = place not in found or answer.record is not found[place].record
                    found[place] = answer
                    done = len(found) == len(asked) and all(one.exact for one in found.values())
                    status = _status_of(list(found.values()), done=done)
                    if new:
                        size = found[0].photo.size
                        kept = Kept(tuple(found.values()), path, size, box=box)
                        yield drawn(kept, style, status, busy=not done)
                    else:
                        yield {says: status}
        except (ValueError, TypeError, OSError, MemoryError) as error:
            texts = [text for text in (name, other) if text and not _is_class(text, labels)]
            guesses = suggestions(texts[0], labels) if texts and not question.like else []
            if guesses and texts[0] == name:
                yield {
                    **wrong(f"No class is called {name!r}."),
                    maybe: gr.update(choices=guesses, value=None, visible=True),
                }
            else:
                named = f"{path.name}: " if isinstance(error, ReadingError) else ""
                yield wrong(f"{named}{error or type(error).__name__}")
                if not found and not named:  # so that a box can be drawn on it
                    image = read_picture(path).image
                    yield {
                        result: pictures.shown(image),
                        state: Kept(photo=path, size=image.size, box=box),
                    }

    def stopped(found: Iterable[Answer]) -> dict[Any, Any]:
        lines = [line for one in found for line in pictures.told(one)]
        return {
            says: _status(" ".join(["Stopped.", *lines])),
            cancel: gr.update(visible=False),
        }

    def stop(request: gr.Request) -> str:
        sessions.stop(request.session_hash)
        return _status("Stopping …", busy=True)

    def redraw(colormap: str, alpha: float, threshold: float, kept: Kept) -> tuple[Any, Any, Any]:
        if not kept.answers:
            return gr.skip(), gr.skip(), gr.skip()
        style = Style(colormap, alpha, threshold)
        first, *others = kept.answers
        return (
            pictures.draw(first, style),
            pictures.draw(others[0], style) if others else gr.skip(),
            files.as_python(first, style, networks.source),
        )

    def click(
        colormap: str, alpha: float, threshold: float, kept: Kept, event: gr.SelectData
    ) -> dict[Any, Any]:
        if kept.photo is None:
            return {state: kept}
        scale = pictures.shown_scale(kept.size)
        point = event.index[0] * scale, event.index[1] * scale
        if kept.corner is None:
            return {
                state: kept._replace(corner=point),
                says: _status("One corner of a box is set. Click the opposite one."),
            }
        box = _box(kept.corner, point, kept.size)
        return measured(kept, box, Style(colormap, alpha, threshold))

    def measured(kept: Kept, box: Corners | None, style: Style) -> dict[Any, Any]:
        kept = kept._replace(corner=None)
        try:
            found = engine.boxed(networks, kept.answers[0], box) if kept.answers else None
        except ValueError as error:
            return {state: kept, **wrong(error)}
        kept = kept._replace(box=box)
        if found is None:  # the question has changed; `explain` answers it next
            return {state: kept, again: str(box)}
        kept = kept._replace(answers=(found, *kept.answers[1:]))
        return drawn(kept, style, _status_of(kept.answers, done=True), busy=False)

    def without_box(colormap: str, alpha: float, threshold: float, kept: Kept) -> dict[Any, Any]:
        return measured(kept, None, Style(colormap, alpha, threshold))

    def write(colormap: str, alpha: float, threshold: float, kept: Kept) -> tuple[Any, Any]:
        if not kept.answers:
            return gr.skip(), gr.skip()
        style = Style(colormap, alpha, threshold)
        folder = Path(tempfile.mkdtemp(dir=page.GRADIO_CACHE))
        made: list[Path] = []
        try:
            for answer in kept.answers:
                made += files.write(answer, style, folder, networks.source)
        except (ValueError, OSError) as error:
            return gr.skip(), _status(f"{error}: choose the photograph again", wrong=True)
        return gr.update(value=[str(path) for path in made], visible=True), gr.skip()

    def choose(event: gr.SelectData) -> str:
        return event.value

    def leave(request: gr.Request) -> None:
        sessions.end(request.session_hash)

    with gr.Blocks(
        title="What did the network look at?",
        analytics_enabled=False,
        delete_cache=(_KEPT_SECONDS // 6, _KEPT_SECONDS),
    ) as page:
        state = gr.State(Kept(), time_to_live=_KEPT_SECONDS)
        again = gr.Textbox(visible=False)
        gr.Markdown(_heading(networks))
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=300):
                photo = gr.Image(
                    label="Photograph", sources=["upload", "clipboard", "webcam"], height=320,
                    buttons=[], elem_id="photo",
                    placeholder="# Drop a photograph here\nor click to choose one",
                )  # fmt: skip
                paths = [str(path) for path in samples.paths().values()]
                gr.Examples(
                    [[path] for path in paths], photo, examples_per_page=len(paths),
                    label="or choose one of these", elem_id="samples", api_visibility="private",
                )  # fmt: skip
            with gr.Column(scale=3, min_width=300):
                result = gr.Image(
                    label="What it looked at · click two corners for a box",
                    format="jpeg", interactive=False, height=440, buttons=["fullscreen"],
                    elem_id="result",
                )  # fmt: skip
                with gr.Row(elem_id="below"):
                    says = gr.HTML(_status("The map appears here."), elem_id="says", padding=False)
                    cancel = gr.Button("Cancel", variant="stop", visible=False, **small)
                    unbox = gr.Button("Remove the box", visible=False, **small)
                beside = gr.Image(
                    label="And the other way round", format="jpeg", interactive=False, height=360,
                    visible=False, buttons=["fullscreen"], elem_id="beside",
                )  # fmt: skip
                with gr.Row(equal_height=False, visible=bool(labels)) as classes:
                    with gr.Column(min_width=260):
                        top = gr.Label(
                            label="The likeliest classes: click one", num_top_classes=5,
                            show_heading=False, elem_id="top",
                        )  # fmt: skip
                    with gr.Column(min_width=260):
                        names = sorted(class_names(labels), key=str.casefold)
                        target = gr.Dropdown(
                            [("the likeliest", ""), *names], value="", label="Evidence for",
                            allow_custom_value=True, elem_id="class",
                        )  # fmt: skip
                        maybe = gr.Radio([], label="Did you mean", visible=False, elem_id="maybe")
                        rather = gr.Dropdown(
                            [("any other", ""), *names], value="", label="rather than",
                            allow_custom_value=True, elem_id="rather",
                        )  # fmt: skip
        with gr.Row(equal_height=False):
            with gr.Column(min_width=300), gr.Accordion("How it is explained", open=False):
                method = gr.Dropdown(
                    networks.methods(), value="score-cam", label="Method", elem_id="method",
                    info="Score-CAM sharpens step by step; other methods appear when done",
                )  # fmt: skip
                known = networks.layers()
                layer = gr.Dropdown(
                    [(f"default: {networks.usual.layer}", ""), *known], value="",
                    label="Layer", info="Earlier layers are finer, but less specific to the class",
                    visible=bool(known), elem_id="layer",
                )  # fmt: skip
                layers = gr.Slider(
                    1, 4, value=1, step=1, label="Layers together",
                    info="This layer and earlier ones; the map is the product of their maps",
                    visible=bool(known),
                )  # fmt: skip
            with gr.Column(min_width=300), gr.Accordion("How it looks", open=False):
                colormap = gr.Dropdown(list(COLORMAPS), value="ember", label="Colours")
                alpha = gr.Slider(0, 1, value=0.7, step=0.05, label="Opacity")
                threshold = gr.Slider(
                    0, 0.95, value=0, step=0.05, label="Threshold",
                    info="Frames the largest part above this fraction of the maximum",
                    elem_id="threshold",
                )  # fmt: skip
            with (
                gr.Column(min_width=300),
                gr.Accordion("Like another photograph?", open=not labels),
            ):
                like = gr.Image(
                    label="What makes it like this one?", sources=["upload", "clipboard"],
                    height=240, buttons=[], elem_id="like",
                    placeholder="Drop a second photograph here",
                )  # fmt: skip
        with gr.Accordion("Save", open=False):
            keep = gr.Button("Make picture, report, NPY and Python", interactive=False)
            kept_files = gr.Files(label="Files", visible=False, interactive=False)
            code = gr.Code(label="The same in Python", language="python", interactive=False)

        for picture in (photo, like):
            picture.async_move_resource_to_block_cache = uploaded
        asked = [photo, like, target, rather, method, layer, layers]
        looks = [colormap, alpha, threshold]
        gr.on(
            [photo.change, like.change, target.change, rather.change, method.change, layer.change,
             layers.release, again.change],
            explain, [*asked, *looks, state],
            [result, beside, says, cancel, top, classes, maybe, state, code, keep, kept_files,
             unbox],
            # Uploads are passed unchanged to the library's own readers.
            preprocess=False, show_progress="hidden", trigger_mode="multiple",
            concurrency_limit=_TOGETHER, **private,
        )  # fmt: skip
        cancel.click(stop, None, says, queue=False, **private)
        shown = [result, beside, says, cancel, top, state, code, keep, unbox, again]
        quick: dict[str, Any] = {"show_progress": "hidden", **private}
        gr.on(
            [colormap.change, alpha.release, threshold.release], redraw, [*looks, state],
            [result, beside, code], **quick,
        )  # fmt: skip
        result.select(click, [*looks, state], shown, **quick)
        unbox.click(without_box, [*looks, state], shown, **quick)
        top.select(choose, None, target, **quick)
        maybe.input(lambda name: name, maybe, target, **quick)
        keep.click(write, [*looks, state], [kept_files, says], **private)
        page.unload(leave)
    return page


def _is_class(text: str, labels: tuple[str, ...]) -> bool:
    try:
        class_called(text, labels)
    except ValueError:
        return False
    return True


def _box(first: tuple[float, float], second: tuple[float, float], size: tuple[int, int]) -> Corners:
    """The box between two corners, at least one pixel wide and high."""
    (left, right), (top, bottom) = (sorted(pair) for pair in zip(first, second, strict=True))
    left, top = min(left, size[0] - 1.0), min(top, size[1] - 1.0)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _status_of(found: Sequence[Answer], *, done: bool) -> str:
    """The status line below the map."""
    text = " ".join(line for one in found for line in pictures.told(one))
    total = sum(one.masks for one in found)
    if done or not total:
        return _status(text)
    return _status(text, done=sum(one.scored for one in found), total=total)


def _status(
    text: str, *, done: int | None = None, total: int = 1, busy: bool = False, wrong: bool = False
) -> str:
    bar = '<div class="bar busy"><i></i></div>' if busy else ""
    if done is not None:
        bar = (
            f'<div class="bar" role="progressbar" aria-valuenow="{done}" aria-valuemax="{total}">'
            f'<i style="width: {100 * done / max(total, 1):.0f}%"></i></div>'
            f"<span>{done} of {total}</span>"
        )
    kind = ' class="wrong" role="alert"' if wrong else ""
    return f'<div class="status" aria-live="polite">{bar}<p{kind}>{html.escape(text)}</p></div>'


def _heading(networks: Networks) -> str:
    name = networks.source.get("name") or networks.usual.name or "a network of your own"
    return (
        "# What did the network look at?\n"
        "Give it a photograph. The parts that led the network to its class light up, coarsely at "
        f"first, then exactly. The network is {name}."
    )
