import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest

from bayesflow_sandbox.errors import CallRefusedError, SandboxClosedError
from bayesflow_sandbox.limits import Limits
from bayesflow_sandbox.llm_call import LLMCall, LLMTurn
from bayesflow_sandbox.outcome import Outcome
from bayesflow_sandbox.sandbox import EngineName, Sandbox
from sandbox.workflows import ENGINES, EchoHost, workflow


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> EngineName:
    name: EngineName = request.param
    return name


@pytest.fixture
async def sandbox(engine: EngineName) -> AsyncIterator[Sandbox]:
    async with Sandbox(workers=4, engine=engine) as sandbox:
        yield sandbox


async def run(sandbox: Sandbox, body: str, before: str = "") -> Outcome:
    return await sandbox.run_workflow(workflow(body, before), ["six"], EchoHost())


async def test_a_workflow_gets_its_arguments_and_returns_its_answer(sandbox: Sandbox) -> None:
    host = EchoHost()
    source = workflow(
        """
        answers = await self.llm.call_llm(
            messages=["Say", problem], temperature=0.5, num_of_response=2,
            agent_role="parrot", instructions="repeat",
        )
        return answers[1], self.llm.get_usage_summary()["total_cost"]
        """
    )
    outcome = await sandbox.run_workflow(source, ["six"], host)
    assert outcome.value == ("Say\nsix", 0.25)
    assert outcome.host_calls == 1
    assert host.calls == [
        LLMCall(
            turns=(LLMTurn("user", "Say\nsix"),),
            temperature=0.5,
            num_of_response=2,
            agent_role="parrot",
            instructions="repeat",
        )
    ]


async def test_call_gets_as_many_arguments_as_are_given(sandbox: Sandbox) -> None:
    source = workflow("return [problem, entry_point]").replace(
        "__call__(self, problem)", "__call__(self, problem, entry_point)"
    )
    outcome = await sandbox.run_workflow(source, ["sort it", "solve"], EchoHost())
    assert outcome.value == ["sort it", "solve"]


async def test_module_level_helpers_and_constants_work(sandbox: Sandbox) -> None:
    before = """
    import re
    from collections import Counter

    NUMBER = re.compile(r"-?[0-9]+")

    def most_common(texts: List[str]) -> Optional[str]:
        return Counter(texts).most_common(1)[0][0] if texts else None

    class Reader:
        def read(self, text):
            return NUMBER.findall(text)

    """
    outcome = await run(sandbox, 'return most_common(Reader().read("7 8 7"))', before)
    assert outcome.value == "7"


async def test_gathered_calls_are_in_flight_together(sandbox: Sandbox) -> None:
    class Meeting(EchoHost):
        def __init__(self) -> None:
            super().__init__()
            self.barrier = asyncio.Barrier(3)

        async def call_llm(self, call: LLMCall) -> list[str]:
            async with asyncio.timeout(20):
                await self.barrier.wait()  # passes only when three calls wait here at once
            return await super().call_llm(call)

    body = """
    import asyncio
    answers = await asyncio.gather(*[self.llm.call_llm([str(i)]) for i in range(3)])
    return [answer[0] for answer in answers]
    """
    outcome = await sandbox.run_workflow(workflow(body), ["six"], Meeting())
    assert outcome.value == ["0", "1", "2"]


async def test_a_failure_names_line_source_and_step(sandbox: Sandbox) -> None:
    source = workflow(
        """
        text = "fine"
        # Step 2 - divide
        halves = [
            1 / len(text),
            1 / (len(text) - 4),
        ]
        return halves
        """
    )
    outcome = await sandbox.run_workflow(source, ["six"], EchoHost())
    failure = outcome.failure
    assert failure is not None
    assert not outcome.ok
    assert failure.type == "ZeroDivisionError"
    assert failure.line == source.splitlines().index("            1 / (len(text) - 4),") + 1
    assert failure.code == "1 / (len(text) - 4),"
    assert failure.step == "Step 2: divide"


async def test_a_failing_helper_is_charged_to_the_step_that_called_it(sandbox: Sandbox) -> None:
    before = "def first(items):\n    return items[0]\n\n"
    outcome = await run(sandbox, "return first([])", before)
    assert outcome.failure is not None
    assert (outcome.failure.line, outcome.failure.code) == (2, "return items[0]")
    assert (outcome.failure.type, outcome.failure.step) == ("IndexError", "Step 1: do it")


async def test_lines_stay_right_behind_an_import_of_statistics(sandbox: Sandbox) -> None:
    before = (
        "import re, statistics as s\nfrom statistics import (\n    mean,\n    mode as m,\n)\n\n"
    )
    outcome = await run(sandbox, "return [mean([1, 2]), s.median([3, 1, 2]), m('aab')]", before)
    assert outcome.value == [1.5, 2, "a"]
    outcome = await run(sandbox, "return mean([])", before)
    assert outcome.failure is not None
    assert outcome.failure.code == "return mean([])"
    assert outcome.failure.type in ("StatisticsError", "ValueError")  # plain Python's; Monty's


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("", "TypeError: call_llm() needs messages"),
        ("'text'", "TypeError: call_llm(): messages must be a list, not str"),
        ("[problem], 3.0", "ValueError: call_llm(): temperature must be between 0 and 2"),
        ("[problem], num_of_response=0", "ValueError: call_llm(): num_of_response"),
        ("[problem], tools=[1]", "TypeError: call_llm() has no parameter 'tools'"),
        ("[self]", "TypeError: call_llm(): a message must be a string or a dict"),
        ("[print]", "TypeError: call_llm(): a message must be a string or a dict"),
    ],
)
async def test_a_bad_argument_is_an_exception_inside_and_no_call(
    sandbox: Sandbox, arguments: str, error: str
) -> None:
    host = EchoHost()
    caught = workflow(
        f"""
        try:
            await self.llm.call_llm({arguments})
        except (TypeError, ValueError) as error:
            return type(error).__name__ + ": " + str(error)
        """
    )
    outcome = await sandbox.run_workflow(caught, ["six"], host)
    assert isinstance(outcome.value, str)
    assert outcome.value.startswith(error)
    outcome = await sandbox.run_workflow(
        workflow(f"await self.llm.call_llm({arguments})"), ["six"], host
    )
    assert outcome.failure is not None
    assert f"{outcome.failure.type}: {outcome.failure.message}".startswith(error)
    assert outcome.failure.line == 9
    assert host.calls == []


class FailingHost(EchoHost):
    def __init__(self, fault: BaseException) -> None:
        super().__init__()
        self.fault = fault

    async def call_llm(self, call: LLMCall) -> list[str]:
        raise self.fault


SWALLOWING = [
    "try:\n    await self.llm.call_llm([problem])\nexcept Exception:\n    pass\nreturn 'swallowed'",
    "try:\n    await self.llm.call_llm([problem])\nexcept:\n    pass\nreturn 'swallowed'",
    "try:\n    await self.llm.call_llm([problem])\nfinally:\n    return 'swallowed'",
    "try:\n    await self.llm.call_llm([problem])\nexcept:\n    while True:\n        pass",
    "import asyncio\ntry:\n    await asyncio.gather(*[self.llm.call_llm(['x']) for i in range(3)])"
    "\nexcept Exception:\n    pass\nreturn 'swallowed'",
]


@pytest.mark.parametrize("body", SWALLOWING)
async def test_a_fault_of_the_host_leaves_as_the_same_object_whatever_the_workflow_catches(
    sandbox: Sandbox, body: str
) -> None:
    class ProviderDownError(Exception):
        pass

    fault = ProviderDownError("529")
    with pytest.raises(ProviderDownError) as raised:
        await sandbox.run_workflow(workflow(body), ["six"], FailingHost(fault))
    assert raised.value is fault
    assert (await run(sandbox, "return problem")).value == "six"


async def test_a_cancelled_host_call_cancels_and_is_no_failure(sandbox: Sandbox) -> None:
    with pytest.raises(asyncio.CancelledError):
        await sandbox.run_workflow(
            workflow(SWALLOWING[0]), ["six"], FailingHost(asyncio.CancelledError())
        )


async def test_a_fault_of_the_usage_summary_aborts_too(sandbox: Sandbox) -> None:
    class Broken(EchoHost):
        def get_usage_summary(self) -> Mapping[str, float]:
            raise LookupError("no ledger")

    body = "try:\n    self.llm.get_usage_summary()\nexcept Exception:\n    pass\nreturn 1"
    with pytest.raises(LookupError, match="no ledger"):
        await sandbox.run_workflow(workflow(body), ["six"], Broken())


async def test_a_refused_call_is_a_value_error_inside(sandbox: Sandbox) -> None:
    host = FailingHost(CallRefusedError("the prompt exceeds the model's context"))
    outcome = await sandbox.run_workflow(
        workflow("await self.llm.call_llm([problem])"), ["six"], host
    )
    assert outcome.failure is not None
    assert outcome.failure.type == "ValueError"
    assert outcome.failure.message == "the prompt exceeds the model's context"


class HangingHost(EchoHost):
    def __init__(self) -> None:
        super().__init__()
        self.waiting = asyncio.Event()
        self.cancelled = False

    async def call_llm(self, call: LLMCall) -> list[str]:
        self.waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return []


async def test_the_wall_clock_ends_an_execution_that_waits_for_the_host(sandbox: Sandbox) -> None:
    host = HangingHost()
    outcome = await sandbox.run_workflow(
        workflow("await self.llm.call_llm([problem])"), ["six"], host, Limits(wall_seconds=0.2)
    )
    assert outcome.failure is not None
    assert outcome.failure.limit == "wall_seconds"
    assert host.cancelled


async def test_cancelling_the_caller_cancels_the_calls_and_frees_the_worker(
    engine: EngineName,
) -> None:
    async with Sandbox(workers=1, engine=engine) as sandbox:
        host = HangingHost()
        source = workflow("await self.llm.call_llm([problem])")
        task = asyncio.create_task(sandbox.run_workflow(source, ["six"], host))
        await host.waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert host.cancelled
        assert (await run(sandbox, "return problem")).value == "six"


async def test_a_call_that_nobody_awaited_is_cancelled_with_its_execution(sandbox: Sandbox) -> None:
    host = HangingHost()
    body = """
    import asyncio
    async def fail():
        raise ValueError("first")
    await asyncio.gather(self.llm.call_llm([problem]), fail())
    """
    outcome = await sandbox.run_workflow(workflow(body), ["six"], host)
    assert outcome.failure is not None
    assert outcome.failure.message == "first"
    assert host.cancelled or not host.waiting.is_set()


async def test_random_is_seeded_and_the_clock_stands(sandbox: Sandbox) -> None:
    source = workflow(
        """
        import random, time, datetime
        return [random.random(), time.time(), str(datetime.date.today())]
        """
    )
    first, again, other = [
        await sandbox.run_workflow(source, ["six"], EchoHost(), seed=seed) for seed in (1, 1, 2)
    ]
    assert first.value == again.value
    assert isinstance(first.value, list)
    assert isinstance(other.value, list)
    assert first.value[0] != other.value[0]
    assert first.value[1:] == other.value[1:]


async def test_nothing_leaks_from_one_workflow_to_the_next(engine: EngineName) -> None:
    async with Sandbox(workers=1, engine=engine) as sandbox:
        await run(
            sandbox, "global LEAK\nLEAK = 1\nreturn 1", "LEAK = 0\n\ndef len(x):\n    return 9\n\n"
        )
        outcome = await run(sandbox, "return LEAK")
        assert outcome.failure is not None
        assert outcome.failure.type == "NameError"
        assert (await run(sandbox, "return len(problem)")).value == 3


@pytest.mark.parametrize(
    "body",
    [
        "def numbers():\n    yield 1\nreturn list(numbers())",
        "import re\nreturn re.sub('a', lambda m: 'b', problem)",
        "x = 1\ndel x",
        "return callable(print)",
        "import asyncio\nawait asyncio.gather(self.llm.call_llm(['x']), return_exceptions=True)",
    ],
)
async def test_what_monty_lacks_is_marked_unsupported_and_runs_locked(
    engine: EngineName, sandbox: Sandbox, body: str
) -> None:
    outcome = await run(sandbox, body)
    assert outcome.unsupported == (engine == "monty")
    assert outcome.ok == (engine == "locked")


@pytest.mark.parametrize(
    "body", ["return problem.nonsense", "return nonsense", "raise ValueError('no')", "return {}[1]"]
)
async def test_a_workflow_s_own_mistake_is_not_marked_unsupported(
    sandbox: Sandbox, body: str
) -> None:
    outcome = await run(sandbox, body)
    assert outcome.failure is not None
    assert not outcome.unsupported


async def test_a_source_that_breaks_the_policy_is_not_run(sandbox: Sandbox) -> None:
    host = EchoHost()
    source = workflow("await self.llm.call_llm([problem])\nreturn open('/etc/hostname').read()")
    outcome = await sandbox.run_workflow(source, ["six"], host)
    assert outcome.failure is not None
    assert outcome.failure.type == "PolicyViolation"
    assert outcome.failure.line == 10
    assert outcome.failure.code == "return open('/etc/hostname').read()"
    assert host.calls == []


async def test_lone_surrogates_of_a_model_reach_the_workflow_as_question_marks(
    sandbox: Sandbox,
) -> None:
    class Surrogates(EchoHost):
        async def call_llm(self, call: LLMCall) -> list[str]:
            return ["a\ud800b"]

    source = workflow("return (await self.llm.call_llm([problem]))[0]")
    assert (await sandbox.run_workflow(source, ["x\udfffy"], Surrogates())).value == "a?b"


async def test_print_goes_nowhere(sandbox: Sandbox, capfd: pytest.CaptureFixture[str]) -> None:
    assert (await run(sandbox, "print('to the wire')\nreturn 1")).value == 1
    assert capfd.readouterr().out == ""


async def test_closing_twice_is_fine_and_a_closed_sandbox_says_so(engine: EngineName) -> None:
    sandbox = Sandbox(workers=1, engine=engine)
    assert (await run(sandbox, "return 1")).value == 1
    await sandbox.aclose()
    await sandbox.aclose()
    with pytest.raises(SandboxClosedError):
        await run(sandbox, "return 1")


async def test_closing_stops_what_runs_and_what_waits_for_a_worker(engine: EngineName) -> None:
    sandbox = Sandbox(workers=1, engine=engine)
    host = HangingHost()
    source = workflow("await self.llm.call_llm([problem])")
    tasks = [asyncio.create_task(sandbox.run_workflow(source, ["six"], host)) for _ in range(3)]
    await host.waiting.wait()
    async with asyncio.timeout(20):
        await sandbox.aclose()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [SandboxClosedError] * 3


def test_a_sandbox_needs_a_worker() -> None:
    with pytest.raises(ValueError, match="workers=0"):
        Sandbox(workers=0)
