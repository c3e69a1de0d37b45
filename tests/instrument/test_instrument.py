"""``instrument()``: what it wraps, what it refuses and why, and that its undo restores everything."""

from __future__ import annotations

import asyncio
import inspect
import sys
from pathlib import Path
from typing import Any

import pytest
import shopping

from otelflow import flow, instrument, task
from otelflow.errors import ConfigError
from otelflow.testing import Capture

pytestmark = pytest.mark.usefixtures("shop")

# --- kinds of callables -----------------------------------------------------------------------------------------------


def test_names_become_flows_and_tasks(shop: Any, captured: Capture) -> None:
    """Names alone give a flow with its tasks; functions keep values, exceptions and signatures."""
    signature, doc = inspect.signature(shop.reserve), shop.reserve.__doc__
    with instrument(flows=[{"target": "shop.stock:Base.place", "name": "place order"}], tasks=["shop.stock:reserve"]):
        shop.Base.both = lambda self: (self.place(1), shop.reserve("a"))
        assert shop.Base().place(1) == ["placed", "Base", 1]
        assert shop.reserve("a", 2) == ["a", 2]
        assert (inspect.signature(shop.reserve), shop.reserve.__doc__) == (signature, doc)
        assert inspect.isfunction(shop.reserve)
        with pytest.raises(TypeError, match="missing 1 required positional argument"):
            shop.reserve()
    captured.assert_tree("place order\nreserve\nreserve !TypeError")


def test_wrapped_functions_are_transparent(shop: Any, captured: Capture) -> None:
    """A flow's function returns its own value. Nothing is injected, and no output is captured."""
    with instrument(flows=["shop.stock:reserve"], tasks=["shop.stock:fail"]):
        assert shop.reserve("a", this_flow=1) == ["a", 1]
        with pytest.raises(ValueError, match="nothing left") as caught:
            shop.fail(1)
    assert captured.task("fail").error == "ValueError: nothing left"
    assert captured.task("fail").error.exception is caught.value  # type: ignore[union-attr]
    assert captured.flow("reserve").messages == []


METHODS = [
    ("place", lambda item: item.place(7), ["placed", "Sub", 7]),
    ("make", lambda item: type(item).make("x"), ("Sub", "x")),
    ("make", lambda item: item.make("x"), ("Sub", "x")),
    ("plain", lambda item: item.plain("x"), "x"),
    ("plain", lambda item: type(item).plain("x"), "x"),
    ("total", lambda item: item.total, 5),
    ("__call__", lambda item: item("x"), "x"),
    ("__len__", len, 3),
    ("place", lambda item: type(item).place(item, 7), ["placed", "Sub", 7]),
    ("Inner.deep", lambda item: item.Inner().deep(), "deep"),
]


@pytest.mark.parametrize(("name", "call", "value"), METHODS)
@pytest.mark.parametrize("kind", ["flow", "task"])
def test_methods_of_all_kinds_are_wrapped(
    shop: Any, captured: Capture, kind: str, name: str, call: Any, value: Any
) -> None:
    """Calls through an object and through its class, of a base class and of a subclass."""
    original = vars(shop.Base).get(name)
    with instrument(**{f"{kind}s": [f"shop.stock:Base.{name}"]}):
        assert call(shop.Sub()) == value
        assert len(captured.find(name.rpartition(".")[2], kind=kind)) == 1
    assert call(shop.Sub()) == value
    assert len(captured.spans) == 1
    assert vars(shop.Base).get(name) is original


def test_a_property_gets_a_span_for_its_getter(shop: Any, captured: Capture) -> None:
    """Setter, caching and type of the property do not change."""
    with instrument(tasks=["shop.stock:Base.total", "shop.stock:Base.costly"]):
        item = shop.Base()
        item.total = 9
        assert (item.kept, item.total) == (9, 5)
        assert item.costly is item.costly
        assert type(vars(shop.Base)["total"]) is property
    captured.assert_tree("total\ncostly")
    assert item.costly is item.costly


def test_coroutines_and_generators_keep_their_kind(shop: Any, captured: Capture) -> None:
    """``inspect`` still recognises them, and their span lasts as long as they run."""
    targets = [f"shop.stock:{name}" for name in ("fetch", "each", "stream", "Base.fetch")]

    async def consume() -> list[int]:
        assert await shop.fetch("a") == "a"
        item = shop.Base()
        assert await item.fetch() is item
        return [number async for number in shop.stream(3)]

    with instrument(tasks=targets):
        assert inspect.iscoroutinefunction(shop.fetch)
        assert inspect.isgeneratorfunction(shop.each)
        assert inspect.isasyncgenfunction(shop.stream)
        assert shop.fetch.__name__ == "fetch"
        steps = shop.each(2)
        assert (next(steps), steps.send("x"), next(steps)) == ("begin", (0, "x"), (1, "x"))
        with pytest.raises(StopIteration) as stop:
            next(steps)
        assert stop.value.value == "end"
        assert asyncio.run(consume()) == [0, 1, 2]
    captured.assert_tree("each\nfetch\nfetch\nstream")


def test_c_functions_and_callable_objects_are_wrapped(shop: Any, captured: Capture) -> None:
    """Callables that are not Python functions keep their other attributes and their class."""
    with instrument(tasks=["shop.stock:doubled", "json:dumps", "math:hypot"]):
        import math

        assert (shop.doubled(4), shop.doubled(4), shop.doubled.cache_info().hits) == (8, 8, 1)
        assert math.hypot(3, 4) == 5
        assert shop.dumps([1]) == "[1]"
    captured.assert_tree("doubled x2\nhypot\ndumps")
    assert math.hypot.__class__ is type(len)


def test_a_method_is_wrapped_on_the_named_class_only(shop: Any, captured: Capture) -> None:
    """The method may be inherited or overridden; other classes stay unchanged."""
    with instrument(tasks=["shop.stock:Sub.place", "shop.stock:Sub.over", "shop.stock:Base.over"]):
        assert shop.Base().place(1) == ["placed", "Base", 1]
        assert captured.spans == []
        assert shop.Sub().place(1) == ["placed", "Sub", 1]
        assert shop.Sub().over() == "sub, base"
    captured.assert_tree("place\nover\n  over")
    assert "place" not in vars(shop.Sub)


@pytest.mark.parametrize("order", [("Base", "Sub"), ("Sub", "Base")])
def test_a_method_wrapped_on_base_and_subclass_makes_one_span(
    shop: Any, captured: Capture, order: tuple[str, ...]
) -> None:
    """The order of wrapping and of undoing does not matter."""
    undos = [instrument(tasks=[f"shop.stock:{name}.place"]) for name in order]
    shop.Sub().place(1)
    shop.Base().place(1)
    captured.assert_tree("place x2")
    captured.clear()
    undos[0]()
    shop.Sub().place(1)
    shop.Base().place(1)
    assert len(captured.spans) >= 1
    undos[1]()
    assert ("place" in vars(shop.Sub), vars(shop.Base)["place"].__class__.__name__) == (False, "function")


REFUSED = [
    ("shop.stock:reserv", "shop.stock has no 'reserv'. Did you mean 'reserve'?"),
    ("shop.stock:Base.plase", "shop.stock.Base has no 'plase'. Did you mean 'place'?"),
    ("shop.stock:Bas.place", "shop.stock has no 'Bas'. Did you mean 'Base'?"),
    ("shop.stock:Base", "shop.stock.Base is a class: name its methods, such as Base.__init__."),
    ("shop.stock:number", "shop.stock.number is not a function but an object of type int."),
    (
        "shop.stock:order.place",
        "shop.stock.order is not a class but an object of type Base: name the method of its class.",
    ),
    ("shop.stock:Slotted.data", "shop.stock.Slotted.data is a slot: it holds data and cannot be called."),
    ("shop.stock:Base.__hash__", "where a span is not safe: name a method that it calls."),
    ("shop.stock:Base.__init__", "shop.stock.Base.__init__ is inherited from object; Base does not define it."),
    ("decimal:Decimal.sqrt", "Decimal is a built-in or extension type"),
    ("decimal:Decimal.real", "Decimal is a built-in or extension type"),
]


@pytest.mark.parametrize(("target", "reason"), REFUSED)
def test_a_target_that_cannot_be_wrapped_raises_with_the_reason(target: str, reason: str) -> None:
    """The error names the target; ``instrument()`` then wraps nothing at all."""
    import decimal  # noqa: F401  # only imported modules are searched

    with pytest.raises(ConfigError) as caught:
        instrument(tasks=["shop.stock:fetch", target])
    assert str(caught.value).startswith(f"tasks[1]: {target}: ")
    assert reason in str(caught.value)
    assert type(sys.modules["shop.stock"].fetch).__name__ == "function"


def test_a_method_inherited_from_c_is_wrapped(shop: Any, captured: Capture) -> None:
    """Only the subclass changes; the built-in class does not."""
    with instrument(tasks=["shop.stock:Names.get"]):
        assert shop.Names(a=1).get("a") == 1
        assert {"a": 1}.get("a") == 1
    captured.assert_tree("get")
    assert "get" not in vars(shop.Names)


def test_a_decorated_function_is_left_alone(shop: Any, captured: Capture) -> None:
    """It makes its own span: one call, one span."""
    shop.reserve = task(shop.reserve)
    decorated = shop.reserve
    with instrument(flows=["shop.stock:reserve"]) as undo:
        assert shop.reserve is decorated
        assert undo.wrapped == []
        shop.reserve("a")
    captured.assert_tree("reserve")


# --- patterns ---------------------------------------------------------------------------------------------------------


def test_patterns_match_parts_of_names(shop: Any) -> None:
    """A pattern matches one part of a name. It skips imported functions, properties and names with an underscore."""
    shopping.load("use")

    def wrapped(**target: Any) -> list[str]:
        with instrument(tasks=[target]) as undo:
            return [name.removeprefix("shop.") for name in undo.wrapped]

    functions = ["doubled", "each", "fail", "fetch", "reserve", "stream"]
    assert wrapped(target="shop.stock:*") == [f"stock:{name}" for name in functions]
    assert wrapped(target="shop.*:*") == [*(f"stock:{name}" for name in functions), "use:both"]
    assert wrapped(target="shop.*:f*", exclude=["fa*"]) == ["stock:fetch"]
    assert wrapped(target="shop.stock:Base.*") == [
        f"stock:Base.{x}" for x in ("fetch", "halved", "make", "over", "place", "plain")
    ]
    assert wrapped(target="shop.stock:*.over") == ["stock:Base.over", "stock:Sub.over"]
    assert wrapped(target="shop.stock:_*") == ["stock:_private"]
    assert wrapped(target="shop.stock:Base.*.*") == ["stock:Base.Inner.deep"]
    assert wrapped(target="shop.*:Base.place") == ["stock:Base.place"]


def test_a_pattern_with_too_many_matches_raises(tmp_path: Path) -> None:
    """The error has the number of matches; nothing is wrapped."""
    shopping.write(tmp_path, many="\n".join(f"def f{number}(): pass" for number in range(10_000)))
    many = shopping.load("many")
    with pytest.raises(ConfigError) as caught:
        instrument(tasks=["shop.many:*", "shop.stock:reserve"])
    assert str(caught.value) == (
        "tasks[0]: shop.many:* matches 10000 functions; its limit is 5000. No more of them are instrumented. "
        "Use a narrower pattern or exclude, or set limit = 10000."
    )
    assert type(many.f0).__name__ == "function"
    with instrument(tasks=[{"target": "shop.many:*", "limit": 10_000}]) as undo:
        assert len(undo.wrapped) == 10_000
    assert type(many.f0).__name__ == "function"


# --- attributes -------------------------------------------------------------------------------------------------------


def test_attributes_come_from_named_arguments_only(shop: Any, captured: Capture) -> None:
    """Also for methods, classmethods and properties."""
    calls = {
        "Base.place": ({"order.id": "order.id", "class": "self"}, lambda: shop.Sub().place({"id": 7, "card": "4111"})),
        "Base.make": ({"name": "name", "class": "cls"}, lambda: shop.Sub.make("x")),
        "Base.plain": ({"name": "name"}, lambda: shop.Sub().plain("y")),
        "Base.total": ({"length": "self.kept"}, lambda: shop.Sub().total),
        "reserve": ({"sku": "sku", "n": "count"}, lambda: shop.reserve("a", count=2)),
        "Names.__contains__": ({"key": "key"}, lambda: "x" in shop.Names()),
        "Base.halved": ({"number": "number"}, lambda: shop.Base().halved(4)),
        "doubled": ({"number": "number"}, lambda: shop.doubled(8)),
    }
    shop.Sub.kept = 4
    targets = [{"target": f"shop.stock:{name}", "attributes": paths} for name, (paths, _) in calls.items()]
    with instrument(flows=targets[:1], tasks=targets[1:]):
        for _, call in calls.values():
            call()
    attributes_by_name = {
        run.name: {k: v for k, v in run.attributes.items() if "otelflow" not in k} for run in captured.spans
    }
    for attributes in attributes_by_name.values():
        del attributes["code.function.name"]
    assert attributes_by_name == {
        "place": {"order.id": 7, "class": "<shop.stock.Sub>"},
        "make": {"name": "x", "class": "<type>"},
        "plain": {"name": "y"},
        "total": {"length": 4},
        "reserve": {"sku": "a", "n": 2},
        "__contains__": {"key": "x"},
        "halved": {"number": 4},
        "doubled": {"number": 8},
    }


def test_attributes_of_async_and_sync_generators(shop: Any, captured: Capture) -> None:
    """Arguments are read when the run starts."""
    paths = {"n": "count"}
    with instrument(
        tasks=[{"target": "shop.stock:stream", "attributes": paths}, {"target": "shop.stock:each", "attributes": paths}]
    ):
        list(shop.each(2))

        async def consume() -> None:
            async for _ in shop.stream(3):
                pass

        asyncio.run(consume())
    assert [run.attributes["n"] for run in captured.tasks] == [2, 3]


def test_samplers_get_the_attributes(shop: Any) -> None:
    """The attributes exist when the span starts. Below a span that was sampled out, arguments are not read."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler, SamplingResult

    from otelflow._spans.tracer import use_provider

    seen, read = [], []

    class RecordingSampler(Sampler):
        """Record the attribute, and drop the span."""

        def should_sample(self, parent_context: Any, *args: Any, **kwargs: Any) -> SamplingResult:
            seen.append(dict(kwargs.get("attributes") or args[3])["order.id"])
            return ALWAYS_OFF.should_sample(parent_context, *args, **kwargs)

        def get_description(self) -> str:
            return "recording"

    class Order:
        """Record each read of ``id``."""

        @property
        def id(self) -> int:
            read.append(self)
            return 7

    paths = {"order.id": "order.id"}
    provider = TracerProvider(sampler=ParentBased(RecordingSampler()), shutdown_on_exit=False)
    with instrument(flows=[{"target": "shop.stock:Base.place", "attributes": paths}]), use_provider(provider):
        shop.Base().place(Order())
        assert (seen, len(read)) == ([7], 1)

        @flow(attributes={"order.id": 8})
        def outer() -> None:
            shop.Base().place(Order())

        outer().execute()
    assert (seen, len(read)) == ([7, 8], 1)


def test_a_path_with_an_unknown_parameter_raises(shop: Any) -> None:
    """The error comes before anything is wrapped."""
    with pytest.raises(ConfigError) as caught:
        instrument(tasks=[{"target": "shop.stock:fetch", "attributes": {"a": "skus.id"}}, "shop.stock:reserve"])
    assert str(caught.value) == (
        "tasks[0]: shop.stock:fetch: there is no parameter 'skus'. Did you mean 'sku'? Its parameters: sku."
    )
    assert type(shop.fetch).__name__ == type(shop.reserve).__name__ == "function"


class Hostile:
    """Raise on any attribute access and on repr."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("no")

    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_hostile_arguments_do_not_fail_a_call(shop: Any, captured: Capture) -> None:
    """Paths that raise, and a value of 10 MB."""
    paths = {"a": "sku.x", "b": "count", "c": "note"}
    with instrument(tasks=[{"target": "shop.stock:reserve", "attributes": paths}]):
        hostile = Hostile()
        assert shop.reserve(hostile, "x" * 10_000_000, note=[hostile])[0] is hostile
    attributes = captured.task("reserve").attributes
    assert "a" not in attributes
    assert len(attributes["b"]) < 2100
    assert attributes["c"] == "<list>"
    assert attributes["otelflow.dropped.values"] == 1
