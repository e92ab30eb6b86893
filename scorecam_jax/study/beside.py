"""Work in threads, alongside the computation."""

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
    """Take items in this thread, work on them in other threads, and report them in order.

    At most as many items wait as there are threads. After an exception, the items taken before it
    are still finished and reported. After an interruption, only work in progress is finished.

    Args:
        items: taken one after the other, such as from a generator that computes them.
        work: called with each item, in one of the threads.
        tell: called with each item and its result or exception, in the items' order, in one
            separate thread. Its exceptions are raised here.
        threads: the number of working threads.
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
    """Yield the items. While one is in use, a thread prepares the next.

    To be closed by who stops early: else the garbage collector may end it in that very thread.
    """
    items, end = iter(items), object()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield item  # type: ignore[misc]
