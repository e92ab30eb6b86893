"""Answers to questions, by maps that become sharper step by step."""

import collections
import contextlib
import functools
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from scorecam_jax import samples
from scorecam_jax.adapters.model import list_layers, show_attention
from scorecam_jax.app.question import Corners, Question, plan_of
from scorecam_jax.methods import METHODS
from scorecam_jax.methods.base import Explanation
from scorecam_jax.methods.rounds import score_cam_round
from scorecam_jax.models import Classifier
from scorecam_jax.reading import read_picture
from scorecam_jax.reading.annotations import usable
from scorecam_jax.study import questions
from scorecam_jax.study.metering import measure
from scorecam_jax.study.pipeline import Plan, records
from scorecam_jax.study.programs import Prediction, Programs
from scorecam_jax.study.record import Given, Record
from scorecam_jax.study.sameness import unwrap

FIRST = 16
"""Masks scored before the first map, and per round until `COARSE` masks are scored."""

COARSE = 64
"""Masks from which the remaining scores are interpolated, before the rest are scored."""

AT_ONCE = 48
"""Masks scored between two checks of whether the question was abandoned."""

_MOST_NETWORKS = 6


class Answer(NamedTuple):
    """The answer to a question so far.

    Attributes:
        question: the question.
        plan: the question as a plan for the pipeline.
        record: the record with the latest map.
        photo: the upright photograph.
        scored: number of masks scored so far; 0 for methods other than Score-CAM.
        masks: number of masks to score.
        exact: whether the record's map is final.
    """

    question: Question
    plan: Plan
    record: Record
    photo: Image.Image
    scored: int
    masks: int
    exact: bool


class Networks:
    """Variants of one network for questions: other layers, or likeness to a photograph."""

    def __init__(self, load: Callable[..., Classifier], **source: Any) -> None:
        """Load the network.

        Args:
            load: (layer=, layers=, embedding=) -> a classifier.
            **source: the arguments given to `models.load`.

        Raises:
            Exception: whatever `load` raises.
        """
        self.source = source
        self._load = load
        self._lock = threading.Lock()
        self._known: collections.OrderedDict[Any, Any] = collections.OrderedDict()
        self.usual = self._get(None, 1, False)
        if len(self.usual.input_size) != 2:
            raise ValueError(
                "this network takes volumes, and the app shows only photographs; use "
                "`scorecam explain` for volumes"
            )
        self.programs = Programs({})
        self._predicting = threading.Lock()
        self._ending, self._running, self._closed = threading.Condition(), 0, False

    def of(self, question: Question) -> Classifier:
        """The classifier that answers a question.

        Raises:
            ValueError: there is no such layer, or the photograph to compare with cannot be read.
        """
        embedding = question.like is not None
        layer, layers = question.layer or None, question.layers
        if not embedding:
            return self._get(layer, layers, False)

        def put() -> Classifier:
            classifier = self._get(layer, layers, True)
            known = [question.photo, *samples_like(question.photo), *samples_like(question.like)]
            return questions.like(classifier, Path(question.like or ""), None, known).classifier

        return self._cached(("like", question.photo, question.like, layer, layers), put)

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """A context for computations, for whose end `close` waits.

        Raises:
            ValueError: the networks were closed.
        """
        with self._ending:
            if self._closed:
                raise ValueError("this page was closed")
            self._running += 1
        try:
            yield
        finally:
            with self._ending:
                self._running -= 1
                self._ending.notify_all()

    def close(self, seconds: int | float) -> None:
        """Stop computing, because a process that ends during a computation aborts.

        Args:
            seconds: the maximum time to wait for running computations.
        """
        with self._ending:
            self._closed = True
            self._ending.wait_for(lambda: not self._running, seconds)

    def predict(self, score: Any, model: Any, inputs: Any) -> Prediction:
        """Predict the classes of an input."""
        if score is not None:
            return Programs({}, score=score).predict(model, inputs)
        with self._predicting:
            return self.programs.predict(model, inputs)

    def layers(self) -> list[tuple[str, str]]:
        """The layers that can be explained: (text to show, path) of each."""
        inputs = jax.ShapeDtypeStruct((1, *self.usual.input_shape), "float32")
        try:
            found = list_layers(self.usual.model, inputs)
        except TypeError:  # not made by an adapter, so its layer is fixed
            return []
        return [
            (f"{one.path}  ({' × '.join(map(str, one.shape[1:]))})", one.path)
            for one in found
            if len(one.shape) == 4 and one.kind != "attention matrix"
        ]

    def methods(self) -> list[str]:
        """The methods that explain this network."""
        inputs = jax.ShapeDtypeStruct((1, *self.usual.input_shape), "float32")
        try:
            show_attention(self.usual.model, inputs)
        except (TypeError, ValueError):
            return list(METHODS.of_any_network())
        return list(METHODS)

    def warm(self) -> None:
        """Compile the programs for the first question.

        Raises:
            ValueError: the network cannot be explained.
        """
        if not self.usual.labels:  # the first question will need a second photograph
            return
        grain = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
        item = Given("grain", Image.fromarray(grain))
        for answer in _rounds(self, Question(Path("grain")), self.usual, item):
            if answer.scored > COARSE:
                break

    def _get(self, layer: str | None, layers: int, embedding: bool) -> Classifier:
        def load() -> Classifier:
            return self._load(layer=layer, layers=layers, embedding=embedding)

        return self._cached((layer, layers, embedding), load)

    def _cached(self, key: Any, make: Callable[[], Any]) -> Any:
        """The cached value for a key, made if missing. The least recently used value is dropped."""
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        made = make()
        with self._lock:
            self._known[key] = made
            while len(self._known) > _MOST_NETWORKS:
                self._known.popitem(last=False)
        return made


def answers(networks: Networks, question: Question) -> Generator[Answer, None, None]:
    """Answer a question, first by a coarse map and finally by the exact one.

    Computation stops when the iterator is closed. Maps are made after `FIRST` masks, after `COARSE`
    masks and after all masks; between them only `scored` changes.

    Raises:
        ValueError: the photograph cannot be read, or the question does not fit the network.
    """
    image = read_picture(question.photo).image
    name = question.photo.name
    return _rounds(networks, question, networks.of(question), Given(name, image))


def in_turn(
    networks: Networks, asked: Sequence[Question]
) -> Generator[tuple[int, Answer], None, None]:
    """Answer several questions in turn, step by step; yield (index of the question, answer).

    Raises:
        ValueError: as in `answers`.
    """
    running = {place: answers(networks, one) for place, one in enumerate(asked)}
    while running:
        for place, each in list(running.items()):
            answer = next(each, None)
            if answer is None:
                del running[place]
            else:
                yield place, answer


def boxed(networks: Networks, answer: Answer, box: Corners | None) -> Answer | None:
    """Measure another box on the same map; None if the box changes the question to the network.

    Raises:
        ValueError: the network does not see the box.
    """
    question = answer.question._replace(box=box)
    classifier, record = answer.plan.classifier, answer.record
    plan, score = plan_of(question, classifier, record.name, answer.photo.size)
    if score is not None:
        return None
    boxes, _, notes = usable(plan.annotations.get(record.name), answer.photo.size, record.name)
    carried = classifier.preprocess.boxes(np.array(boxes).reshape(-1, 4), answer.photo.size)
    if not (carried[:, 2:] > 0).all():
        raise ValueError("the network does not see this box: it lies outside the bright part")
    (result,) = record.results.values()
    assert result.heatmaps is not None
    empty = np.zeros((1, *classifier.input_shape), np.float32)
    (metrics,) = measure(
        networks.programs, plan.metrics, question.method, classifier.model, empty,
        result.heatmaps[:1], np.array([record.targets[0].index]),
        carried[None].astype(np.float32) if boxes else None,
    )  # fmt: skip
    results = {question.method: result._replace(metrics=metrics)}
    changed = record._replace(boxes=[*boxes], results=results, left_out=notes)
    return answer._replace(question=question, plan=plan, record=changed)


def _rounds(
    networks: Networks, question: Question, classifier: Classifier, item: Given
) -> Generator[Answer, None, None]:
    plan, score = plan_of(question, classifier, item.name, item.image.size)
    rounds = _Rounds(functools.partial(networks.predict, score), plan.methods[question.method])
    with networks.computing():
        shown = _record(plan, item, rounds)
    while True:
        masks = max(rounds.scored, shown.live) if rounds.scored else 0
        yield Answer(question, plan, shown, item.image, rounds.scored, masks, rounds.whole)
        if rounds.whole:
            return
        with networks.computing():
            rounds.go_on()
            if rounds.whole or rounds.scored == COARSE:
                shown = _record(plan, item, rounds)


def _record(plan: Plan, item: Given, rounds: "_Rounds") -> Record:
    (found,) = records(plan, [item], programs=rounds)
    if not isinstance(found, Record):
        raise ValueError(found.why)
    return found


class _Rounds(Programs):
    """Programs for `records` that keep their results, and score further masks on request."""

    def __init__(self, predict: Callable[..., Prediction], method: Callable[..., Any]) -> None:
        super().__init__({})
        self._say, self._method = predict, method
        self._predicted: Prediction | None = None
        self._asked: tuple[Any, Any, Any] = (None, None, None)
        self._made: Explanation | None = None
        self.whole = False
        self.scored = 0

    def predict(self, model: Callable[..., Any], inputs: Any) -> Prediction:
        """Like `Programs.predict`, but computed once."""
        if self._predicted is None:
            self._predicted = self._say(model, inputs)
        return self._predicted

    def explain_each(
        self,
        method: str,
        model: Callable[..., Any],
        inputs: Sequence[Any],
        targets: Sequence[Any],
        size: int,
    ) -> list[tuple[np.ndarray, Explanation | None, float]]:
        """Like `Programs.explain_each`, for one input: the explanation so far."""
        if self._made is None:
            self._asked = model, inputs[0], np.asarray(targets[0], np.int32)[:1]
            self.go_on()
        found = jax.tree.map(np.asarray, self._made)
        return [(found.heatmap[:, None][0], found, 0.0)]

    def go_on(self) -> None:
        """Score further masks; methods other than Score-CAM are completed at once."""
        function, options = unwrap(self._method)
        if function is not METHODS["score-cam"]:
            self._made = jax.block_until_ready(self._method(*self._asked))
            self.whole = True
            return
        coarse = self.scored < COARSE
        count = FIRST if coarse else AT_ONCE
        most = COARSE if coarse else None
        model, inputs, targets = self._asked
        made = score_cam_round(
            model, inputs, targets, self._made, count=count, most=most, **options
        )  # fmt: skip
        self._made = jax.block_until_ready(made)
        scored = sum(int(each.sum()) for each in jax.tree.leaves(made.scored))
        self.whole = scored - self.scored < count
        self.scored = scored


def samples_like(path: Path | None) -> list[Path]:
    """The samples of which a file is a copy."""
    if path is None:
        return []
    size = path.stat().st_size
    alike = [one for one in samples.paths().values() if one.stat().st_size == size]
    return [one for one in alike if one.read_bytes() == path.read_bytes()]
