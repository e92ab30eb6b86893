import random
import signal
import threading
import time

import pytest

from scorecam_jax.study.beside import work_beside
from tests.cli.toy import UNIX


def test_items_are_told_in_their_order_whoever_is_done_first():
    pause = random.Random(0)
    told = []
    work_beside(
        range(20),
        lambda item: (time.sleep(0.02 * pause.random()), item**2)[1],
        lambda item, done: told.append((item, done.result())),
        threads=4,
    )
    assert told == [(item, item**2) for item in range(20)]


def test_an_item_is_made_while_the_one_before_is_worked_on():
    made, both = threading.Event(), []

    def items():
        yield "first"
        made.set()
        yield "second"

    def work(item):
        both.append(made.wait(10))

    work_beside(items(), work, lambda item, done: done.result(), threads=1)
    assert both == [True, True]


def test_as_many_are_worked_on_at_once_as_there_are_threads():
    together = threading.Barrier(3, timeout=10)
    told = []
    work_beside(
        range(3),
        lambda item: together.wait(),
        lambda item, done: told.append(sorted({0, 1, 2} & {done.result()})),
        threads=3,
    )
    assert sorted(told) == [[0], [1], [2]]


def test_no_more_items_wait_than_there_are_threads():
    finished = []
    ahead = []

    def items():
        for item in range(12):
            ahead.append(item - len(finished))
            yield item

    work_beside(
        items(),
        lambda item: time.sleep(0.005),
        lambda item, done: finished.append(item),
        threads=2,
    )
    assert len(finished) == 12
    assert max(ahead) <= 2


@pytest.mark.parametrize("where", ["items", "tell"])
def test_an_exception_comes_after_what_was_taken_is_told(where):
    told = []

    def items():
        yield from range(3)
        if where == "items":
            raise LookupError("broken")

    def tell(item, done):
        told.append(done.result())
        if where == "tell" and item == 2:
            raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"):
        work_beside(items(), lambda item: item, tell, threads=2)
    assert told == [0, 1, 2]


def test_what_work_raises_is_told_of():
    told = []

    def tell(item, done):
        told.append(type(done.exception()))

    work_beside([1, 0, 2], lambda item: 1 // item, tell, threads=2)
    assert told == [type(None), ZeroDivisionError, type(None)]


@UNIX
@pytest.mark.usefixtures("interruptible")
def test_an_interruption_waits_for_what_has_begun_and_begins_nothing_more():
    before = threading.active_count()
    begun, done, told = [], [], []
    both = threading.Barrier(2, timeout=10)

    def work(item):
        begun.append(item)
        if both.wait() == 0:
            time.sleep(0.5)  # until all that there is to do is wait
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(1)
        done.append(item)

    def tell(item, drawn):
        drawn.result()
        told.append(item)

    with pytest.raises(KeyboardInterrupt):
        work_beside(range(9), work, tell, threads=2)
    assert sorted(begun) == sorted(done) == told == [0, 1]
    assert threading.active_count() == before
