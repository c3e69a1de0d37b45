"""``instrument()`` rebinds names in other modules, and its undo restores them."""

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

# --- names in other modules -------------------------------------------------------------------------------------------


def test_imported_names_are_rebound_and_restored(shop: Any, captured: Capture) -> None:
    """In any module, under any name, bound before or after ``instrument()``."""
    original = shop.reserve
    use = shopping.load("use")
    undo = instrument(tasks=["shop.stock:reserve"])
    assert use.both() == (["a", 1], ["b", 2], ["c", 1])
    captured.assert_tree("reserve x3")
    exec("from shop.stock import reserve as late", use.__dict__)
    undo()
    assert use.reserve is use.take is use.late is shop.reserve is original


def test_a_target_may_name_an_imported_function(shop: Any, captured: Capture) -> None:
    """Both names stand for one function."""
    use = shopping.load("use")
    with instrument(tasks=["shop.use:take", "shop.stock:reserve"]) as undo:
        use.both()
        assert undo.wrapped == ["shop.use:take"]
    captured.assert_tree("reserve x3")
    assert use.take is use.reserve is shop.reserve
    assert type(shop.reserve).__name__ == "function"


def test_references_in_objects_are_not_rebound(shop: Any, captured: Capture) -> None:
    """A list with the original function keeps it. A list with the wrapper gets no spans after the undo."""
    use = shopping.load("use")
    undo = instrument(tasks=["shop.stock:reserve"])
    wrappers = [shop.reserve]
    assert (use.handlers[0]("a"), wrappers[0]("b")) == (["a", 1], ["b", 1])
    undo()
    assert wrappers[0]("c") == ["c", 1]
    captured.assert_tree("reserve")


# --- undo -------------------------------------------------------------------------------------------------------------


def all_values(shop: Any) -> dict[str, Any]:
    """Return all values in the module and its classes."""
    values = dict(vars(shop))
    for name in ("Base", "Sub", "Slotted", "Names"):
        values.update({f"{name}.{key}": value for key, value in vars(getattr(shop, name)).items()})
    return values


def test_the_undo_restores_the_identical_objects(shop: Any) -> None:
    """Each name has its original value again, and no name is added."""
    use = shopping.load("use")
    shop_values, use_values = all_values(shop), dict(vars(use))
    undo = instrument(tasks=["shop.*:*", "shop.stock:*.*", "shop.stock:Base.total", "shop.stock:Sub.place"])
    assert all_values(shop) != shop_values
    undo()
    undo()
    assert all_values(shop) == shop_values
    assert dict(vars(use)) == use_values
    assert undo.wrapped == []


def test_the_same_target_twice_makes_one_span(shop: Any, captured: Capture) -> None:
    """The function stays wrapped until both are undone, in either order."""
    for first_index in (0, 1):
        undos = [instrument(tasks=["shop.stock:reserve"]) for _ in range(2)]
        shop.reserve("a")
        undos[first_index]()
        shop.reserve("a")
        captured.assert_tree("reserve x2")
        undos[1 - first_index]()
        shop.reserve("a")
        captured.assert_tree("reserve x2")
        captured.clear()
        assert type(shop.reserve).__name__ == "function"


def test_the_undo_keeps_a_patch_around_the_wrapper(shop: Any, captured: Capture) -> None:
    """The patch stays in place; the wrapper inside it makes no spans."""
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


def test_running_calls_keep_their_spans_after_the_undo(shop: Any, captured: Capture) -> None:
    """A running generator keeps its span to its end."""
    with instrument(tasks=["shop.stock:each"]):
        steps = shop.each(1)
        next(steps)
    assert list(steps) == [(0, None)]
    captured.assert_tree("each")
    assert list(shop.each(0)) == ["begin"]
    captured.assert_tree("each")


def test_an_exception_in_the_with_block_undoes(shop: Any) -> None:
    """The exception propagates, and the original function is restored."""
    with pytest.raises(KeyError), instrument(tasks=["shop.stock:reserve"]):
        raise KeyError
    assert type(shop.reserve).__name__ == "function"


# --- with other features ----------------------------------------------------------------------------------------------


def test_targets_may_be_functions(shop: Any, captured: Capture) -> None:
    """Instead of names; a single one needs no list."""
    with instrument(flows=shop.Base.place, tasks=[shop.reserve]):
        shop.Base().place(1)
        shop.reserve("a")
    captured.assert_tree("place\nreserve")


def test_targets_come_from_a_file(
    shop: Any, captured: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its path, or found in the current folder. Arguments add targets."""
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


def test_a_decorated_flow_may_call_instrumented_functions(shop: Any, captured: Capture) -> None:
    """The flow keeps its context, dependencies and configuration. Nothing is injected into instrumented functions."""
    seen = []
    shop.look = lambda sku="default": seen.append((sku, current_flow()))
    shop.look.__module__, shop.look.__qualname__ = "shop.stock", "look"

    @flow(dependencies={"sku": "injected"}, flow_config=FlowRunConfig(capture_output=False))
    def outer() -> None:
        shop.look()

    with instrument(tasks=[{"target": "shop.stock:look", "name": "look"}]):
        run = outer().execute()
    assert seen == [("default", run)]
    captured.assert_tree("outer\n  look")


def test_a_flow_may_start_a_new_trace(shop: Any, captured: Capture) -> None:
    """With a link to the outer flow."""
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
    """By name, like the original. A process without instrumentation gets the original."""
    with instrument(tasks=["shop.stock:reserve", "shop.stock:Base.place"]):
        pickled = pickle.dumps(shop.reserve)
        assert pickle.loads(pickled) is shop.reserve
        assert pickle.loads(pickle.dumps(shop.Base().place))(1) == ["placed", "Base", 1]
    assert pickle.loads(pickled) is shop.reserve


def test_instrument_is_exported_by_the_package() -> None:
    """``from otelflow import instrument`` works."""
    assert "instrument" in otelflow.__all__
    assert otelflow.instrument is instrument
