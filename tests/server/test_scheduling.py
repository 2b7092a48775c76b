import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from typing import TypeVar

import pytest

from bayesflow_server.scheduling import PriorityEventLoop, event_loop_factory, in_background

_Result = TypeVar("_Result")


class Ticking(PriorityEventLoop):
    """Its clock moves on a second at each look, so a slice is one callback."""

    seconds = 100.0

    def time(self) -> float:
        self.seconds += 1
        return self.seconds


class Standing(PriorityEventLoop):
    """Its clock stands still unless it is set."""

    seconds = 100.0

    def time(self) -> float:
        return self.seconds


def run(
    work: Coroutine[object, object, _Result],
    *,
    debug: bool = False,
    loop: type[PriorityEventLoop] = PriorityEventLoop,
) -> _Result:
    with asyncio.Runner(loop_factory=loop, debug=debug) as runner:
        return runner.run(work)


async def steps(count: int, note: Callable[[int], None]) -> None:
    for number in range(count):
        note(number)
        await asyncio.sleep(0)


def test_what_is_in_front_goes_before_all_that_waits_in_the_background() -> None:
    async def main() -> list[str]:
        order: list[str] = []
        background = [in_background(steps(1, lambda _: order.append("behind"))) for _ in range(50)]
        await steps(5, lambda _: order.append("in front"))
        await asyncio.gather(*background)
        return order

    order = run(main(), loop=Ticking)
    assert order[:9] == [*["in front", "behind"] * 4, "in front"]
    assert order.count("behind") == 50


def test_the_background_moves_however_busy_the_front_is() -> None:
    async def main() -> int:
        moved = 0

        def note(_number: int) -> None:
            nonlocal moved
            moved += 1

        background = in_background(steps(20, note))
        for _ in range(1_000_000):
            await asyncio.sleep(0)
            if background.done():
                break
        return moved

    assert run(main()) == run(main(), loop=Ticking) == 20


def test_the_background_pauses_while_something_happens_in_front_but_not_for_ever() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Standing)
        ran: list[int] = []
        await in_background(steps(1, ran.append))
        background = in_background(steps(1, ran.append))
        for _ in range(20):
            await asyncio.sleep(0)
        assert ran == [0]
        loop.seconds += 0.01
        for _ in range(3):
            await asyncio.sleep(0)
        assert ran == [0, 0]
        loop.seconds += 0.01
        await background

    run(main(), loop=Standing)


def test_within_the_background_the_order_is_first_come_first_served() -> None:
    async def main() -> list[int]:
        order: list[int] = []

        async def work(number: int) -> None:
            order.append(number)

        await asyncio.gather(*(in_background(work(number)) for number in range(100)))
        return order

    assert run(main()) == list(range(100))


def test_tasks_that_the_background_makes_are_background_and_others_are_not() -> None:
    async def main() -> None:
        front = asyncio.get_running_loop().create_future()
        order: list[str] = []

        async def child() -> None:
            order.append("child")

        async def parent() -> None:
            tasks = [asyncio.create_task(child()) for _ in range(3)]
            front.set_result(None)
            await asyncio.gather(*tasks)

        background = in_background(parent())
        await front
        order.append("in front")
        await background
        assert order == ["in front", "child", "child", "child"]

    run(main(), loop=Ticking)


def test_nothing_is_lost_between_threads_timers_and_both_queues() -> None:
    async def main() -> int:
        done = 0

        async def work(number: int) -> None:
            nonlocal done
            await asyncio.sleep(0)
            await asyncio.to_thread(abs, number)
            await asyncio.sleep(0.001)
            done += 1

        async with asyncio.TaskGroup() as group:
            for number in range(100):
                group.create_task(work(number))
            await asyncio.gather(*(in_background(work(number)) for number in range(100)))
        return done

    assert run(main()) == 200


def test_a_background_callback_that_fails_is_reported_and_the_next_ones_run() -> None:
    async def main() -> tuple[list[str], str]:
        loop = asyncio.get_running_loop()
        told: list[str] = []
        ran: asyncio.Future[str] = loop.create_future()
        loop.set_exception_handler(lambda _, context: told.append(str(context["exception"])))

        def fails() -> None:
            raise ValueError("broken")

        async def work() -> None:
            loop.call_soon(fails)
            loop.call_soon(ran.set_result, "next")

        await in_background(work())
        return told, await ran

    assert run(main()) == (["broken"], "next")


def test_an_exit_in_the_background_ends_the_loop_and_keeps_what_waits_behind_it() -> None:
    loop = PriorityEventLoop()
    ran = loop.create_future()

    def leave() -> None:
        raise SystemExit(3)

    async def work() -> None:
        loop.call_soon(leave)
        loop.call_soon(ran.set_result, "after")

    async def main() -> None:
        await in_background(work())
        await asyncio.Event().wait()

    waiting = loop.create_task(main())
    with pytest.raises(SystemExit):
        loop.run_until_complete(waiting)
    assert loop.run_until_complete(ran) == "after"
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(waiting)
    loop.close()


def test_a_background_task_is_cancelled_like_any_other() -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        task = in_background(work())
        await asyncio.sleep(0.002)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set()

        never = in_background(work())
        never.cancel()
        with pytest.raises(asyncio.CancelledError):
            await never

    run(main())


def test_a_cancelled_callback_of_the_background_is_not_called() -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        ran: list[str] = []
        done = asyncio.Event()

        async def work() -> None:
            loop.call_soon(ran.append, "cancelled").cancel()
            loop.call_soon(ran.append, "kept")
            loop.call_soon(done.set)

        await in_background(work())
        await done.wait()
        return ran

    assert run(main()) == ["kept"]


def test_the_background_sees_the_context_it_was_started_in() -> None:
    asked: ContextVar[str] = ContextVar("asked", default="nothing")

    async def main() -> str:
        async def work() -> str:
            await asyncio.sleep(0)
            return asked.get()

        asked.set("something")
        return await in_background(work())

    assert run(main()) == "something"


def test_in_debug_mode_and_on_other_loops_a_background_task_is_any_task() -> None:
    async def main() -> int:
        return await in_background(asyncio.sleep(0, 7))

    assert run(main(), debug=True) == 7
    assert asyncio.run(main()) == 7


def test_a_closed_loop_takes_no_background_callback() -> None:
    loop = PriorityEventLoop()
    late: list[Callable[[], object]] = []

    async def main() -> None:
        async def keep() -> None:
            context = copy_context()
            late.append(lambda: context.run(loop.call_soon, print))

        await in_background(keep())

    loop.run_until_complete(main())
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        late[0]()


def test_windows_keeps_its_own_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert event_loop_factory() is None
    monkeypatch.setattr(sys, "platform", "linux")
    assert event_loop_factory() is PriorityEventLoop
