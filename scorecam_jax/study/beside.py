"""Work that goes on in threads beside the computing."""

import collections
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def work_beside(
    items: Iterable[Item],
    work: Callable[[Item], Result],
    tell: Callable[[Item, Future[Result]], None],
    *,
    threads: int,
) -> None:
    """Take items in this thread, work on them in others, and tell of them in their order.

    No more items wait than there are threads. An exception ends this when all items taken before
    are done and told. An interruption ends it as soon as the work that has begun is done.

    Args:
        items: taken one after the other, such as from a generator that computes them.
        work: called with each item, in one of the threads.
        tell: called with each item and its result or exception, in the items' order, in one thread
            of its own. What it raises is raised here.
        threads: how many work.
    """
    waiting: collections.deque[Future[None]] = collections.deque()
    with ThreadPoolExecutor(threads) as working, ThreadPoolExecutor(1) as telling:
        try:
            for item in items:
                waiting.append(telling.submit(tell, item, working.submit(work, item)))
                while waiting and (waiting[0].done() or len(waiting) > threads):
                    waiting.popleft().result()
            for told in waiting:
                told.result()
        except KeyboardInterrupt:
            working.shutdown(wait=False, cancel_futures=True)
            raise


def one_ahead(items: Iterable[Item]) -> Generator[Item, None, None]:
    """The items. While one is worked on, a thread prepares the next.

    To be closed by who stops early: else the garbage collector may end it in that very thread.
    """
    items, end = iter(items), object()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield item  # type: ignore[misc]
