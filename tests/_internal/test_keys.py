import dataclasses
import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax._internal.keys import Closure, Static


@dataclasses.dataclass
class Options:
    sizes: list
    name: str = "a"


class Config:
    """As configurations of model libraries are: compared by value, and not hashable."""

    def __init__(self, **values):
        self.__dict__.update(values)

    def __eq__(self, other):
        return self.__dict__ == other.__dict__


class Plain:
    def __init__(self, value):
        self.value = value


class Slots:
    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


class Named(dict):
    """A dict with attributes."""

    def __init__(self, name, **values):
        super().__init__(values)
        self.name = name


MAKERS = {
    "list": lambda value: [value],
    "dict": lambda value: {"a": {"b": value}},
    "set": lambda value: [{value}],
    "dataclass": lambda value: Options([value]),
    "configuration": lambda value: Config(depth=[value]),
    "plain object": lambda value: Plain([value]),
    "slots": lambda value: Slots([value]),
    "dict with attributes": lambda value: Named(value, a=1),
    "subclass of dict": lambda value: Named("a", a=[value]),
    "partial": lambda value: functools.partial(operator.add, [value]),
    "array": lambda value: np.arange(3) * value,
    "jax array": lambda value: [jnp.arange(3) * value],
    "tree": lambda value: jax.tree.structure({str(value): [1, None]}),
    "number": float,
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_equal_contents_have_equal_keys(make):
    assert Static(make(2)) == Static(make(2))
    assert hash(Static(make(2))) == hash(Static(make(2)))
    assert Static(make(2)) != Static(make(3))


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, True), (1, 1.0), (0.0, -0.0), ([1], (1,)), ({"a": 1, "b": 2}, {"b": 2, "a": 1})],
)
def test_what_a_network_can_tell_apart_has_another_key(one, other):
    assert Static(one) != Static(other)
    assert Static([one]) != Static([other])


def test_not_a_number_is_like_itself():
    assert Static(float("nan")) == Static(float("nan"))


def test_a_key_stays_when_its_value_changes():
    sizes = [1, {"a": [2]}]
    before, same = Static(sizes), Static([1, {"a": [2]}])
    sizes[1]["a"].append(3)
    assert before == same
    assert before != Static(sizes)


def test_functions_are_keyed_by_themselves_and_closures_by_contents_too():
    def make(sizes):
        return lambda: len(sizes)

    sizes = [1]
    one, other = make(sizes), make([1])
    assert Static(one) == Static(one)
    assert Static(one) != Static(other)
    before = Static(one), Static(Closure(one))
    sizes.append(2)
    assert Static(one) == before[0]
    assert Static(Closure(one)) != before[1]


def test_what_refers_to_itself_has_a_key():
    def make(last):
        value = [1]
        value.append(value)
        return [*value, last]

    def recursive():
        return recursive

    assert Static(make(2)) == Static(make(2))
    assert Static(make(2)) != Static(make(3))
    assert Static(Closure(recursive)) == Static(Closure(recursive))


def test_what_cannot_be_taken_apart_equals_only_itself():
    one, other = (value for value in [1]), (value for value in [1])
    assert Static([one]) == Static([one])
    assert Static([one]) != Static([other])
    key = jax.random.key(0)
    assert Static(key) == Static(key)


def test_it_is_a_static_argument_of_jit():
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def run(static, x):
        traces.append(static.value)
        return x * len(static.value["sizes"])

    settings = {"sizes": [1]}
    assert run(Static(settings), 2.0) == 2
    assert run(Static({"sizes": [1]}), 2.0) == 2
    settings["sizes"].append(1)
    assert run(Static(settings), 2.0) == 4
    assert run(Static({"sizes": [1]}), 2.0) == 2
    assert len(traces) == 2
