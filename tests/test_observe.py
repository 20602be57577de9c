"""``observe`` changes nothing: each kind of callable x each way to end, beside the same callable without it."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import json
import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pydantic
import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode

from conftest import Recorder
from otel_langfuse import observe, start_as_current_observation, update_current_span


class Trouble(Exception):  # noqa: N818 - short for a table
    def __eq__(self, other: object) -> bool:
        return type(other) is Trouble and other.args == self.args

    def __hash__(self) -> int:
        return 1


def end(how: Any) -> None:
    """Ends the code that calls it in this way."""
    if isinstance(how, BaseException):
        raise how


# -- the four kinds of code --------------------------------------------------------------------------------------------------


def function(how: Any, n: int = 2) -> Any:
    end(how)
    return {"n": n}


async def coroutine(how: Any, n: int = 2) -> Any:
    await asyncio.sleep(0)
    end(how)
    return {"n": n}


def generator(how: Any, n: int = 2) -> Iterator[str]:
    for number in range(n):
        yield f"item {number} "
    end(how)


async def async_generator(how: Any, n: int = 2) -> AsyncIterator[str]:
    for number in range(n):
        await asyncio.sleep(0)
        yield f"item {number} "
    end(how)


CODE = {"function": function, "coroutine": coroutine, "generator": generator, "async generator": async_generator}
OUTPUT = {"function": '{"n":2}', "coroutine": '{"n":2}', "generator": "item 0 item 1 ", "async generator": "item 0 item 1 "}


async def _all(items: Any) -> list[Any]:
    return [item async for item in items]


DRIVE: dict[str, Callable[[Any], Any]] = {
    "function": lambda made: made,
    "coroutine": asyncio.run,
    "generator": list,
    "async generator": lambda made: asyncio.run(_all(made)),
}


def named(code: Callable[..., Any], first: str) -> Callable[..., Any]:
    """The code as a method whose first parameter has this name, of the same kind."""
    source = inspect.getsource(code).replace(f"{code.__name__}(how", f"call({first}, how")
    space: dict[str, Any] = {**globals()}
    exec(compile(source, __file__, "exec"), space)
    return space["call"]  # type: ignore[no-any-return]


# -- the shapes in which code can be called ----------------------------------------------------------------------------------

Wrap = Callable[[Any], Any]
SHAPES: dict[str, Callable[[Wrap, Callable[..., Any]], Callable[..., Any]]] = {}


def shape(name: str) -> Callable[[Any], Any]:
    def add(made: Any) -> Any:
        SHAPES[name] = made
        return made

    return add


@shape("function")
def _(wrap: Wrap, code: Callable[..., Any]) -> Any:
    return wrap(code)


@shape("function, called with parentheses")
def _(wrap: Wrap, code: Callable[..., Any]) -> Any:
    return wrap(code) if wrap is not observe else observe()(code)


@shape("method")
def _(wrap: Wrap, code: Callable[..., Any]) -> Any:
    return type("Holder", (), {"call": wrap(named(code, "self"))})().call


@shape("method through its class")
def _(wrap: Wrap, code: Callable[..., Any]) -> Any:
    kind = type("Holder", (), {"call": wrap(named(code, "self"))})
    return lambda *args, **kwargs: kind.call(kind(), *args, **kwargs)  # type: ignore[attr-defined]


@shape("method of a parent class")
def _(wrap: Wrap, code: Callable[..., Any]) -> Any:
    kind = type("Holder", (), {"call": wrap(named(code, "self"))})
    return type("Child", (kind,), {})().call


@shape("bound method")
def _(wrap: Wrap, code: Callable[..., Any]) -> Any:
    return wrap(type("Holder", (), {"call": named(code, "self")})().call)


@shape("classmethod below")
def _(wrap: Wrap, code: Callable[..., Any]) -> Any:
    return type("Holder", (), {"call": wrap(classmethod(named(code, "cls")))}).call  # type: ignore[attr-defined]


@shape("classmethod above")
def _(wrap: Wrap, code: Callable[..., Any]) -> Any:
    return type("Holder", (), {"call": classmethod(wrap(named(code, "cls")))})().call


@shape("staticmethod below")
def _(wrap: Wrap, code: Callable[..., Any]) -> Any:
    return type("Holder", (), {"call": wrap(staticmethod(code))})().call


@shape("staticmethod above")
def _(wrap: Wrap, code: Callable[..., Any]) -> Any:
    return type("Holder", (), {"call": staticmethod(wrap(code))}).call  # type: ignore[attr-defined]


@shape("partial")
def _(wrap: Wrap, code: Callable[..., Any]) -> Any:
    return wrap(functools.partial(code, n=2))


@shape("partial of an observed function")
def _(wrap: Wrap, code: Callable[..., Any]) -> Any:
    return functools.partial(wrap(code), n=2)


@shape("partialmethod")
def _(wrap: Wrap, code: Callable[..., Any]) -> Any:
    return type("Holder", (), {"call": functools.partialmethod(wrap(named(code, "self")), n=2)})().call


@shape("callable object")
def _(wrap: Wrap, code: Callable[..., Any]) -> Any:
    return wrap(type("Holder", (), {"__call__": named(code, "self")})())


@shape("class whose objects are called")
def _(wrap: Wrap, code: Callable[..., Any]) -> Any:
    return type("Holder", (), {"__call__": wrap(named(code, "self"))})()


@shape("class")
def _(wrap: Wrap, code: Callable[..., Any]) -> Any:
    return wrap(type("Holder", (), {"call": named(code, "self")}))().call


@shape("class with a classmethod")
def _(wrap: Wrap, code: Callable[..., Any]) -> Any:
    return wrap(type("Holder", (), {"call": classmethod(named(code, "cls"))})).call


@shape("class with a staticmethod")
def _(wrap: Wrap, code: Callable[..., Any]) -> Any:
    return wrap(type("Holder", (), {"call": staticmethod(code)}))().call


@shape("dataclass")
def _(wrap: Wrap, code: Callable[..., Any]) -> Any:
    return dataclass(type("Holder", (), {"__annotations__": {"x": int}, "x": 1, "call": wrap(named(code, "self"))}))().call  # type: ignore[attr-defined]


@shape("frozen dataclass with slots, decorated")
def _(wrap: Wrap, code: Callable[..., Any]) -> Any:
    kind = dataclass(frozen=True, slots=True)(type("Holder", (), {"__annotations__": {"x": int}, "call": named(code, "self")}))
    return wrap(kind)(1).call  # type: ignore[call-arg]


@shape("pydantic model")
def _(wrap: Wrap, code: Callable[..., Any]) -> Any:
    return type("Holder", (pydantic.BaseModel,), {"__module__": __name__, "call": wrap(named(code, "self"))})().call


@shape("pydantic model, decorated")
def _(wrap: Wrap, code: Callable[..., Any]) -> Any:
    return wrap(type("Holder", (pydantic.BaseModel,), {"__module__": __name__, "call": named(code, "self")}))().call


@shape("behind another decorator")
def _(wrap: Wrap, code: Callable[..., Any]) -> Any:
    @functools.wraps(code)
    def outer(*args: Any, **kwargs: Any) -> Any:
        return inner(*args, **kwargs)

    inner = wrap(code)
    return outer


@shape("in front of another decorator")
def _(wrap: Wrap, code: Callable[..., Any]) -> Any:
    @functools.wraps(code)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return code(*args, **kwargs)  # a plain function that returns a coroutine or a generator

    return wrap(inner)


@shape("cached")
def _(wrap: Wrap, code: Callable[..., Any]) -> Any:
    return wrap(functools.lru_cache(code))


# -- the ways to end ---------------------------------------------------------------------------------------------------------

ENDS: dict[str, Callable[[], Any]] = {
    "returns": lambda: "well",
    "an exception": lambda: Trouble("no", 1),
    "SystemExit": lambda: SystemExit(3),
    "SystemExit without a code": lambda: SystemExit(0),
    "KeyboardInterrupt": KeyboardInterrupt,
    "CancelledError": lambda: asyncio.CancelledError("stop"),
    "GeneratorExit": GeneratorExit,
    "StopIteration": lambda: StopIteration(5),
    "StopAsyncIteration": StopAsyncIteration,
}


def outcome(call: Callable[[], Any]) -> tuple[str, Any]:
    """What comes of a call, to be compared."""
    try:
        return "returned", call()
    except BaseException as error:  # noqa: BLE001 - that is what is compared
        return type(error).__name__, error


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("kind", CODE)
@pytest.mark.parametrize("called", SHAPES)
def test_each_kind_of_callable_ends_as_it_would_and_is_recorded(called: str, kind: str, how: str, recorder: Recorder) -> None:
    plain = SHAPES[called](lambda code: code, CODE[kind])
    observed = SHAPES[called](observe, CODE[kind])
    without, given = ENDS[how](), ENDS[how]()
    expected = outcome(lambda: DRIVE[kind](plain(without)))
    assert not recorder.spans
    found = outcome(lambda: DRIVE[kind](observed(given)))

    assert found[0] == expected[0]
    if found[0] == "returned":
        assert found[1] == expected[1]
    elif expected[1] is without:
        assert found[1] is given, "the exception itself, unchanged"
    else:  # Python itself makes another one: a generator that raises StopIteration
        assert (found[1].args, type(found[1].__cause__)) == (expected[1].args, type(expected[1].__cause__))
    assert not trace.get_current_span().get_span_context().is_valid, "the caller's context is as it was"
    span = recorder.span()
    assert span.name.rpartition(".")[2] in (CODE[kind].__name__, "call", "Holder")
    fields = recorder.fields()
    assert json.loads(fields["input"])["n"] == 2
    assert list(json.loads(fields["input"])) in (["how", "n"], ["n", "how"]), "neither self nor cls"
    check_end(span, fields, found[1], kind)


def check_end(span: Any, fields: dict[str, Any], result: Any, kind: str) -> None:
    if not isinstance(result, BaseException):
        assert fields["output"] == OUTPUT[kind]
        assert "level" not in fields
        return
    said = f"{type(result).__name__}: {result}" if str(result) else type(result).__name__
    if isinstance(result, asyncio.CancelledError):  # on its way out, Python 3.10 takes its text away
        assert fields["status_message"] in (said, "CancelledError: stop")
    else:
        assert fields["status_message"] == said
    if isinstance(result, Exception) and not isinstance(result, (StopIteration, StopAsyncIteration)):
        assert (fields["level"], span.status.status_code, span.status.description) == ("ERROR", StatusCode.ERROR, said)
        assert [event.name for event in span.events] == ["exception"], "once"
    else:
        quiet = isinstance(result, (GeneratorExit, StopIteration, StopAsyncIteration)) or result.args == (0,)
        assert fields.get("level") == (None if quiet else "WARNING")
        assert (span.status.status_code, span.events) == (StatusCode.UNSET, ())
    if "generator" in kind:
        assert fields["output"] == OUTPUT[kind], "what came before"


@pytest.mark.parametrize("kind", CODE)
@pytest.mark.parametrize("called", SHAPES)
def test_what_is_observed_is_of_the_same_kind_and_signature(called: str, kind: str) -> None:
    plain = SHAPES[called](lambda code: code, CODE[kind])
    observed = SHAPES[called](observe, CODE[kind])
    for asks in (
        inspect.iscoroutinefunction,
        inspect.isgeneratorfunction,
        inspect.isasyncgenfunction,
        inspect.isfunction,
        inspect.ismethod,
        inspect.isclass,
        callable,
    ):
        assert asks(observed) == asks(plain) or (called == "cached" and asks is inspect.isfunction), asks.__name__
    assert type(observed).__name__ == type(plain).__name__ or called == "cached"
    assert inspect.signature(observed) == inspect.signature(plain)
    for name in ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__", "__defaults__"):
        if name != "__defaults__":
            assert getattr(observed, name, None) == getattr(plain, name, None), name


@pytest.mark.parametrize("kind", CODE)
def test_wrong_arguments_are_the_functions_own_error(kind: str, recorder: Recorder) -> None:
    observed = observe(CODE[kind])
    with pytest.raises(TypeError, match="unexpected keyword argument 'wrong'"):
        DRIVE[kind](observed("well", wrong=1))
    assert recorder.fields()["level"] == "ERROR"


def test_with_a_function_that_is_called_in_itself(recorder: Recorder) -> None:
    @observe
    def factorial(n: int) -> int:
        return 1 if n < 2 else n * factorial(n - 1)

    assert factorial(5) == 120
    assert [recorder_parent(recorder, span) for span in recorder.spans] == ["factorial"] * 4 + [None]


def recorder_parent(recorder: Recorder, span: Any) -> str | None:
    names = {one.context.span_id: one.name for one in recorder.spans}
    return None if span.parent is None else names[span.parent.span_id]


def test_calls_nest_through_every_kind(recorder: Recorder) -> None:
    @observe
    def inner() -> None: ...

    @observe
    def items() -> Iterator[int]:
        inner()
        yield 1

    @observe
    async def answer() -> list[int]:
        return list(items())

    @observe
    async def both() -> None:
        await asyncio.gather(answer(), answer())

    asyncio.run(both())
    assert sorted(f"{recorder_parent(recorder, span)} > {span.name}" for span in recorder.spans) == [
        "None > both",
        *["answer > items"] * 2,
        *["both > answer"] * 2,
        *["items > inner"] * 2,
    ]
    assert len({span.context.trace_id for span in recorder.spans}) == 1


# -- what is recorded --------------------------------------------------------------------------------------------------------


def recorded(recorder: Recorder, call: Callable[[], Any]) -> Any:
    recorder.clear()
    call()
    text = recorder.fields().get("input")
    return None if text is None else json.loads(text)


def test_arguments_are_recorded_by_their_names_with_defaults(recorder: Recorder) -> None:
    @observe
    def f(a: int, /, b: int, c: int = 3, *rest: int, d: int, e: int = 5, **more: int) -> None: ...

    assert recorded(recorder, lambda: f(1, 2, d=4)) == {"a": 1, "b": 2, "d": 4, "c": 3, "e": 5}
    assert recorded(recorder, lambda: f(1, 2, 30, 31, 32, d=4, x=9)) == {
        "a": 1, "b": 2, "c": 30, "rest": [31, 32], "d": 4, "x": 9, "e": 5,
    }  # fmt: skip
    assert recorded(recorder, lambda: f(1, 2, d=4, a=7)) == {"a": 1, "b": 2, "c": 3, "more": {"d": 4, "a": 7}, "e": 5}


def test_without_parameters_there_is_no_input(recorder: Recorder) -> None:
    assert recorded(recorder, observe(lambda: None)) is None


def test_self_and_cls_are_recorded_where_they_are_only_called_so(recorder: Recorder) -> None:
    @observe
    def f(self: str, n: int) -> None: ...

    @observe
    def g(cls: type, n: int) -> None: ...

    @observe
    def h(n: int, cls: str, self: str) -> None: ...

    assert recorded(recorder, lambda: f("me", 1)) == {"self": "me", "n": 1}
    assert recorded(recorder, lambda: g(int, 1)) == {"cls": "type: <class 'int'>", "n": 1}
    assert recorded(recorder, lambda: h(1, "c", "s")) == {"n": 1, "cls": "c", "self": "s"}


class Named:
    @observe
    def other_name(this, n: int) -> int:  # noqa: N805 - Python does not mind
        return n

    @staticmethod
    @observe
    def static(self: str, n: int) -> None: ...  # noqa: PLW0211

    @observe
    def __call__(self, n: int) -> None: ...

    @property
    @observe
    def computed(self) -> int:
        return 1


def test_arguments_that_are_called_like_those_without_a_name_stand_beside_them(recorder: Recorder) -> None:
    @observe
    def taking(first: int, *args: int, **kwargs: int) -> None: ...

    both = {"first": 1, "args": [2, 3], "kwargs": {"args": 4, "kwargs": 5}}
    assert recorded(recorder, lambda: taking(1, 2, 3, args=4, kwargs=5)) == both
    assert recorded(recorder, lambda: taking(1, args=4)) == {"first": 1, "args": 4}


def test_self_is_left_out_whatever_its_name(recorder: Recorder) -> None:
    assert recorded(recorder, lambda: Named().other_name(1)) == {"n": 1}
    assert recorded(recorder, lambda: Named.static("me", 1)) == {"self": "me", "n": 1}
    assert recorded(recorder, lambda: Named.static(Named(), 1)) == {"self": "<test_observe.Named object>", "n": 1}  # type: ignore[arg-type]
    assert recorded(recorder, lambda: Named()(1)) == {"n": 1}
    assert recorded(recorder, lambda: Named().computed) is None


def test_what_is_recorded_is_the_value_at_the_moment_of_the_call(recorder: Recorder) -> None:
    @observe
    def add(to: list[int]) -> list[int]:
        to.append(1)
        return to

    made = add([])
    made.append(2)
    assert (recorder.fields()["input"], recorder.fields()["output"]) == ('{"to":[]}', "[1]")


@pytest.mark.parametrize("value", [None, 0, "", [], False])
def test_empty_results_are_recorded_but_none(value: Any, recorder: Recorder) -> None:
    observe(lambda: value)()
    assert recorder.fields().get("output") == (None if value is None else value if isinstance(value, str) else json.dumps(value))


def test_capture_may_be_refused(recorder: Recorder) -> None:
    for kind, code in CODE.items():
        recorder.clear()
        DRIVE[kind](observe(capture_input=False, capture_output=False)(code)("well"))
        assert set(recorder.fields()) == {"type"}


@pytest.mark.parametrize(("variable", "recorded"), [("false", False), ("0", False), ("False", False), ("true", True), ("", True)])
def test_the_environment_may_refuse_what_the_decorator_does_not_say(
    variable: str, recorded: bool, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANGFUSE_OBSERVE_DECORATOR_IO_CAPTURE_ENABLED", variable)
    observe(name="silent")(function)("well")
    observe(name="asked", capture_input=True)(function)("well")
    assert ("input" in recorder.fields("silent"), "output" in recorder.fields("silent")) == (recorded, recorded)
    assert ("input" in recorder.fields("asked"), "output" in recorder.fields("asked")) == (True, recorded)


def test_name_and_type_may_be_chosen(recorder: Recorder) -> None:
    observe(name="another", as_type="tool")(function)("well")
    assert recorder.fields("another")["type"] == "tool"


def test_an_unknown_type_is_a_span_and_said_once(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    observed = observe(as_type="agnet")(function)  # type: ignore[call-overload]
    observed("well")
    observed("well")
    assert recorder.spans[0].attributes["langfuse.observation.type"] == "span"
    (line,) = [line for line in caplog.messages if "agnet" in line]
    assert line.startswith("otel-langfuse: as_type 'agnet' is none of agent, chain, embedding,")
    assert line.endswith(": span is taken")


def test_a_call_may_name_its_trace(recorder: Recorder) -> None:
    observe(function)("well", langfuse_trace_id="ab" * 16, langfuse_parent_observation_id="cd" * 8, langfuse_public_key="pk")
    span = recorder.span()
    assert (span.context.trace_id, span.parent.span_id) == (int("ab" * 16, 16), int("cd" * 8, 16))
    assert json.loads(recorder.fields()["input"]) == {"how": "well", "n": 2}


def test_a_function_with_such_a_parameter_keeps_it(recorder: Recorder) -> None:
    def f(langfuse_trace_id: str) -> str:
        return langfuse_trace_id

    assert observe(f)(langfuse_trace_id="mine") == "mine"


def test_the_code_can_add_to_its_observation(recorder: Recorder) -> None:
    @observe(as_type="generation")
    def f() -> None:
        update_current_span(metadata={"k": 1}, output="said by hand")

    f()
    assert recorder.fields()["output"] == "said by hand"
    assert recorder.fields()["metadata.k"] == 1


# -- objects and classes -----------------------------------------------------------------------------------------------------


class Client:
    """A callable object with state, comparison, a length and a context."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, n: int) -> int:
        self.calls += n
        return self.calls

    def __len__(self) -> int:
        return self.calls

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Client) and self.calls == other.calls

    __hash__ = None  # type: ignore[assignment]

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None: ...


def test_a_callable_object_is_in_all_else_what_it_was(recorder: Recorder) -> None:
    client = Client()
    observed = observe(client)
    assert observed(2) == 2
    assert (observed.calls, client.calls, len(observed)) == (2, 2, 2)
    observed.calls = 5
    assert client.calls == 5
    assert observed == client
    assert isinstance(observed, Client)
    with observed as inner:
        assert inner is client
    with pytest.raises(TypeError):
        hash(observed)
    assert recorder.span("Client").attributes["langfuse.observation.input"] == '{"n":2}'
    assert pickle.loads(pickle.dumps(observed)).calls == 5


def test_a_class_is_still_the_class(recorder: Recorder) -> None:
    class Service:
        factory: Callable[[int], int] = staticmethod(lambda n: abs(n))  # noqa: PLW0108 - a field, not a method
        made = 0

        def __init__(self, n: int) -> None:
            self.n = n

        def public(self) -> int:
            return self._private()

        def _private(self) -> int:
            return self.n

        @property
        def computed(self) -> int:
            return self.n

        class Inner:
            def call(self) -> int:
                return 1

    observed = observe(name="svc", as_type="agent")(Service)
    assert observed is Service
    service = observed(3)
    assert (service.public(), service.computed, Service.Inner().call(), service.factory(-1)) == (3, 3, 1, 1)
    assert [span.name for span in recorder.spans] == ["svc.public"]
    assert recorder.fields()["type"] == "agent"


def test_a_method_of_a_class_that_is_observed_itself_is_recorded_once(recorder: Recorder) -> None:
    @observe
    class Service:
        @observe(name="mine")
        def call(self) -> None: ...

    Service().call()
    assert [span.name for span in recorder.spans] == ["mine"]


def test_what_cannot_be_called_is_refused_when_decorated() -> None:
    with pytest.raises(TypeError, match=r"observe\(int\): expected a function, a class or another object that can be called"):
        observe(3)  # type: ignore[call-overload]


def test_a_cached_function_keeps_its_cache(recorder: Recorder) -> None:
    observed = observe(functools.lru_cache(lambda n: n))
    observed(1)
    observed(1)
    assert observed.cache_info().hits == 1
    observed.cache_clear()
    assert observed.cache_info().hits == 0


def observed_at_module_level(n: int) -> int:
    return n


observed_at_module_level = observe(observed_at_module_level)


def test_an_observed_function_can_be_sent_to_another_process() -> None:
    assert pickle.loads(pickle.dumps(observed_at_module_level)) is observed_at_module_level


# -- nothing recorded, nothing lost ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CODE)
def test_without_a_provider_calls_are_what_they_were(kind: str) -> None:
    assert DRIVE[kind](observe(CODE[kind])("well")) == DRIVE[kind](CODE[kind]("well"))
    assert observe(function)("well", langfuse_trace_id="ab" * 16) == {"n": 2}


def test_a_provider_that_fails_costs_only_the_record(caplog: pytest.LogCaptureFixture) -> None:
    from otel_langfuse.tracing import register  # noqa: PLC0415

    class Broken:
        def get_tracer(self, *_: Any) -> Any:
            raise RuntimeError("broken")

    register(provider=Broken())
    try:
        assert [observe(function)("well") for _ in range(3)] == [{"n": 2}] * 3
    finally:
        register()
    assert [m for m in caplog.messages if "provider" in m or "tracer" in m] == [
        "otel-langfuse: nothing is recorded: Broken gives no tracer (RuntimeError)"
    ]


class Slow:
    """A value whose looks fail."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize("kind", CODE)
def test_a_value_that_cannot_be_recorded_costs_only_itself(kind: str, recorder: Recorder) -> None:
    DRIVE[kind](observe(CODE[kind])(Slow()))
    assert json.loads(recorder.fields()["input"]) == {"how": "<RuntimeError while looking at test_observe.Slow>", "n": 2}


def test_an_exception_without_a_text_is_recorded_by_its_name(recorder: Recorder) -> None:
    class Unsayable(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise RuntimeError("no")

    error = Unsayable()
    with pytest.raises(Unsayable) as raised:
        observe(function)(error)
    assert raised.value is error
    assert recorder.fields()["status_message"] == "Unsayable"


def test_an_exception_is_recorded_once_on_each_span_that_it_leaves(recorder: Recorder) -> None:
    @observe
    def outer() -> None:
        with start_as_current_observation(name="block"):
            observe(function)(Trouble("no"))

    with pytest.raises(Trouble):
        outer()
    assert [(span.name, len(span.events)) for span in recorder.spans] == [("function", 1), ("block", 1), ("outer", 1)]


def test_nothing_holds_what_was_passed(recorder: Recorder) -> None:
    class Value: ...

    import weakref  # noqa: PLC0415

    for kind, code in CODE.items():
        value = Value()
        gone = weakref.ref(value)
        DRIVE[kind](observe(code)(value))
        with pytest.raises(Trouble):
            DRIVE[kind](observe(code)(Trouble("no")))
        del value
        gc.collect()
        assert gone() is None, kind
