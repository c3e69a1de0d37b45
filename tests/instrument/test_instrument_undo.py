"""What ``instrument()`` does to names that others bound, and how it is undone."""

from __future__ import annotations

import functools
import pickle
from pathlib import Path
from typing import Any

import pytest
import shopping

import otelflow
from otelflow import FlowRunConfig, current_flow, flow, instrument
from otelflow.testing import Capture

pytestmark = pytest.mark.usefixtures("shop")

# --- names that other modules bound -----------------------------------------------------------------------------------


def test_a_name_that_was_imported_from_there(shop: Any, captured: Capture) -> None:
    """Wherever a module bound it, under whatever name, before and after; the undo finds them all."""
    original = shop.reserve
    use = shopping.load("use")
    undo = instrument(tasks=["shop.stock:reserve"])
    assert use.both() == (["a", 1], ["b", 2], ["c", 1])
    captured.assert_tree("reserve x3")
    exec("from shop.stock import reserve as late", use.__dict__)
    undo()
    assert use.reserve is use.take is use.late is shop.reserve is original


def test_a_name_of_another_module(shop: Any, captured: Capture) -> None:
    """A target may name a function where it is imported to; both names are one function."""
    use = shopping.load("use")
    with instrument(tasks=["shop.use:take", "shop.stock:reserve"]) as undo:
        use.both()
        assert undo.wrapped == ["shop.use:take"]
    captured.assert_tree("reserve x3")
    assert use.take is use.reserve is shop.reserve
    assert type(shop.reserve).__name__ == "function"


def test_what_an_object_holds_goes_on_bare_or_stops(shop: Any, captured: Capture) -> None:
    """A list that took the function before has the bare one; one that took the wrapper has, after the undo, a function
    without spans."""
    use = shopping.load("use")
    undo = instrument(tasks=["shop.stock:reserve"])
    taken = [shop.reserve]
    assert (use.handlers[0]("a"), taken[0]("b")) == (["a", 1], ["b", 1])
    undo()
    assert taken[0]("c") == ["c", 1]
    captured.assert_tree("reserve")


# --- undo -------------------------------------------------------------------------------------------------------------


def everything(shop: Any) -> dict[str, Any]:
    """What stands in the module and its classes."""
    found = dict(vars(shop))
    for name in ("Base", "Sub", "Slotted", "Names"):
        found.update({f"{name}.{key}": value for key, value in vars(getattr(shop, name)).items()})
    return found


def test_the_undo_puts_back_the_very_objects(shop: Any) -> None:
    """Each name is bound to what it was bound to, and nothing is added."""
    use = shopping.load("use")
    before, used = everything(shop), dict(vars(use))
    undo = instrument(tasks=["shop.*:*", "shop.stock:*.*", "shop.stock:Base.total", "shop.stock:Sub.place"])
    assert everything(shop) != before
    undo()
    undo()
    assert everything(shop) == before
    assert dict(vars(use)) == used
    assert undo.wrapped == []


def test_twice_is_once(shop: Any, captured: Capture) -> None:
    """The same target again wraps nothing anew; it stays wrapped until both are undone, in either order."""
    for first_out in (0, 1):
        undos = [instrument(tasks=["shop.stock:reserve"]) for _ in range(2)]
        shop.reserve("a")
        undos[first_out]()
        shop.reserve("a")
        captured.assert_tree("reserve x2")
        undos[1 - first_out]()
        shop.reserve("a")
        captured.assert_tree("reserve x2")
        captured.clear()
        assert type(shop.reserve).__name__ == "function"


def test_what_somebody_else_put_around_it_stays(shop: Any, captured: Capture) -> None:
    """Another patch over ours is not ours to remove: ours within it falls silent."""
    undo = instrument(tasks=["shop.stock:reserve"])
    inner = shop.reserve

    @functools.wraps(inner)
    def patched(*args: Any) -> Any:
        return inner(*args)

    shop.reserve = patched
    undo()
    assert shop.reserve is patched
    assert shop.reserve("a") == ["a", 1]
    assert captured.spans == []


def test_calls_in_flight_end_as_they_began(shop: Any, captured: Capture) -> None:
    """A generator that is half through when it is undone has its span to the end."""
    with instrument(tasks=["shop.stock:each"]):
        steps = shop.each(1)
        next(steps)
    assert list(steps) == [(0, None)]
    captured.assert_tree("each")
    assert list(shop.each(0)) == ["begin"]
    captured.assert_tree("each")


def test_an_exception_within_the_with(shop: Any) -> None:
    """It comes through, and the code is bare."""
    with pytest.raises(KeyError), instrument(tasks=["shop.stock:reserve"]):
        raise KeyError
    assert type(shop.reserve).__name__ == "function"


# --- the rest of the house --------------------------------------------------------------------------------------------


def test_functions_may_be_given_themselves(shop: Any, captured: Capture) -> None:
    """In the place of their names; a single one needs no list."""
    with instrument(flows=shop.Base.place, tasks=[shop.reserve]):
        shop.Base().place(1)
        shop.reserve("a")
    captured.assert_tree("place\nreserve")


def test_from_a_file(shop: Any, captured: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its path, or found in the current folder; targets in code come on top."""
    (tmp_path / "otelflow.toml").write_text('[[task]]\ntarget = "shop.stock:reserve"\n')
    monkeypatch.chdir(tmp_path)
    for undo in (instrument(), instrument("otelflow.toml"), instrument(tmp_path / "otelflow.toml")):
        assert undo.wrapped == ["shop.stock:reserve"]
        undo()
    with instrument("otelflow.toml", flows=["shop.stock:fail"]) as undo:
        assert undo.wrapped == ["shop.stock:fail", "shop.stock:reserve"]
    with instrument(flows=["shop.stock:fail"]) as undo:
        assert undo.wrapped == ["shop.stock:fail"]
    assert repr(undo) == "<Instrumentation: 0 functions wrapped, 0 targets waiting>"


def test_it_works_with_decorated_code_around_it(shop: Any, captured: Capture) -> None:
    """Context, dependencies and configuration of a decorated flow hold; nothing is injected into instrumented code."""
    seen = []
    shop.look = lambda sku="bare": seen.append((sku, current_flow()))
    shop.look.__module__, shop.look.__qualname__ = "shop.stock", "look"

    @flow(dependencies={"sku": "injected"}, flow_config=FlowRunConfig(capture_output=False))
    def outer() -> None:
        shop.look()

    with instrument(tasks=[{"target": "shop.stock:look", "name": "look"}]):
        run = outer().execute()
    assert seen == [("bare", run)]
    captured.assert_tree("outer\n  look")


def test_new_trace(shop: Any, captured: Capture) -> None:
    """A flow may begin a trace of its own, linked both ways."""
    with instrument(flows=[{"target": "shop.stock:reserve", "new_trace": True}], tasks=["shop.stock:Base.place"]):
        shop.Base.place = functools.partialmethod(lambda self, order, inner=shop.reserve: inner("a"))

        @flow
        def outer() -> None:
            shop.reserve("a")

        outer().execute()
    inner = captured.flow("reserve")
    assert inner.trace_id != captured.flow("outer").trace_id
    assert [link.context.span_id for link in inner.links] == [captured.flow("outer").span.context.span_id]  # type: ignore[union-attr]


def test_a_wrapped_function_can_be_pickled(shop: Any) -> None:
    """By name, as the bare one; where the other process does not instrument, it is the bare one there."""
    with instrument(tasks=["shop.stock:reserve", "shop.stock:Base.place"]):
        text = pickle.dumps(shop.reserve)
        assert pickle.loads(text) is shop.reserve
        assert pickle.loads(pickle.dumps(shop.Base().place))(1) == ["placed", "Base", 1]
    assert pickle.loads(text) is shop.reserve


def test_the_name_is_part_of_the_facade() -> None:
    """``from otelflow import instrument``, at no cost for who does not."""
    assert "instrument" in otelflow.__all__
    assert otelflow.instrument is instrument
