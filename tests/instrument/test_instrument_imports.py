"""Targets that are not imported yet are wrapped when the program imports them."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import inspect
import logging
import pkgutil
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import shopping

from otelflow import instrument
from otelflow.testing import Capture


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    """Write the package ``shop`` and yield its folder. None of its modules is imported."""
    shopping.write(tmp_path)
    with shopping.importable(tmp_path):
        yield tmp_path


def test_a_module_is_wrapped_when_it_is_imported(captured: Capture) -> None:
    """By name and by pattern. otelflow imports nothing itself; importers of the function get the wrapper."""
    with instrument(flows=["shop.use:both"], tasks=["shop.*:res*"]) as undo:
        assert undo.waiting == ["shop.use:both", "shop.*:res*"]
        assert "shop" not in sys.modules
        use = shopping.load("use")
        assert undo.wrapped == ["shop.stock:reserve", "shop.use:both"]
        assert undo.waiting == []
        use.both()
    captured.assert_tree("both\n  reserve x3")
    assert type(use.both).__name__ == type(use.reserve).__name__ == "function"


def test_the_undo_removes_the_import_hook() -> None:
    """No finder is left, and later imports are not instrumented."""
    instrument(tasks=["shop.stock:reserve"])()
    assert not any(type(finder).__module__.startswith("otelflow") for finder in sys.meta_path)
    assert type(shopping.load("stock").reserve).__name__ == "function"


def test_an_instrumented_module_keeps_loader_and_spec() -> None:
    """Loader, spec, source and data files are Python's own."""
    original = shopping.load("stock")
    facts = (
        type(original.__loader__),
        type(original.__spec__.loader),
        inspect.getsource(original),
        original.__spec__.origin,
    )
    shopping.forget()
    with instrument(tasks=["shop.*:*"]):
        stock = shopping.load("stock")
        assert stock.__loader__ is stock.__spec__.loader  # type: ignore[union-attr]
        assert (
            type(stock.__loader__),
            type(stock.__spec__.loader),
            inspect.getsource(stock),
            stock.__spec__.origin,
        ) == facts  # type: ignore[union-attr]
        assert pkgutil.get_data("shop", "use.py") == Path(stock.__file__ or "").with_name("use.py").read_bytes()
        spec = importlib.util.find_spec("shop.other") or importlib.util.find_spec("shop.use")
        assert spec is not None
        assert isinstance(spec.loader, type(original.__loader__))
        assert spec.loader.get_code("shop.use") is not None  # runpy calls it


def test_a_reload_wraps_the_new_functions(folder: Path, captured: Capture) -> None:
    """The undo restores the newest functions."""
    with instrument(tasks=["shop.stock:reserve", "shop.stock:Base.over"]):
        stock = shopping.load("stock")
        old = stock.Base
        for _ in range(3):
            stock = importlib.reload(stock)
            stock.reserve("a")
            stock.Base().over()
        captured.assert_tree("reserve\nover\nreserve\nover\nreserve\nover")
        assert old is not stock.Base
    assert type(stock.reserve).__name__ == type(vars(stock.Base)["over"]).__name__ == "function"


def test_repeated_reloads_keep_no_references() -> None:
    """Replaced members are dropped, unless another module has a name for them."""
    from otelflow._instrument.registry import _registry

    with instrument(tasks=["shop.stock:*", "shop.stock:Base.*"]):
        stock = shopping.load("stock")
        importlib.reload(stock)
        gc.collect()
        number = len(_registry.members) + len(_registry.stale_members)
        for _ in range(5):
            importlib.reload(stock)
            gc.collect()  # classes are in cycles
        importlib.reload(stock)
        assert len(_registry.members) + len(_registry.stale_members) == number
        use = shopping.load("use")
        importlib.reload(stock)
        importlib.reload(stock)
        assert len(_registry.stale_members) == 1
    assert type(use.reserve).__name__ == "function"
    assert (_registry.members, _registry.stale_members) == ({}, [])


def test_modules_that_import_each_other(folder: Path, captured: Capture) -> None:
    """A name that another module imported from a half-imported module is rebound as well."""
    shopping.write(
        folder,
        first="def early(): return 1\nfrom shop.second import call\n",
        second="from shop.first import early\ndef call(): return early()\n",
    )
    with instrument(tasks=["shop.first:early"]):
        first = shopping.load("first")
        assert first.call() == 1
        captured.assert_tree("early")
    second = shopping.load("second")
    assert second.early is first.early


def test_a_module_that_fails_to_import(folder: Path) -> None:
    """It raises its own exception; a later import succeeds."""
    shopping.write(folder, broken="raise RuntimeError('as ever')\n")
    with instrument(tasks=["shop.broken:f"]) as undo:
        with pytest.raises(RuntimeError, match="as ever"):
            shopping.load("broken")
        assert "shop.broken" not in sys.modules
        (folder / "shop" / "broken.py").write_text("def f(): pass  # fixed\n")
        importlib.invalidate_caches()
        shopping.load("broken")
        assert undo.wrapped == ["shop.broken:f"]


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("shop.stock:reserv", "shop.stock has no 'reserv'. Did you mean 'reserve'?"),
        ("shop.stock:Slotted.data", "shop.stock.Slotted.data is a slot: it holds data and cannot be called."),
    ],
)
def test_a_target_without_a_match_is_logged_once(target: str, text: str, caplog: pytest.LogCaptureFixture) -> None:
    """The import succeeds; one log line has the target and the reason."""
    with caplog.at_level(logging.WARNING, "otelflow"), instrument(tasks=[target]):
        stock = shopping.load("stock")
        importlib.reload(stock)
    assert [record.getMessage() for record in caplog.records] == [
        f"otelflow could not instrument a target: tasks[0]: {target}: {text}"
    ]


def test_an_error_in_otelflow_does_not_break_an_import(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The module is imported, and one log line reports the error."""
    from otelflow._instrument import registry

    def fail(*_: Any) -> Any:
        raise RuntimeError("in otelflow")

    with caplog.at_level(logging.WARNING, "otelflow"), instrument(tasks=["shop.stock:reserve"]):
        monkeypatch.setattr(registry, "_match_targets", fail)
        assert shopping.load("stock").reserve("a") == ["a", 1]
    assert len(caplog.records) == 1
    assert "its import continues" in caplog.records[0].getMessage()


def test_a_module_in_an_archive_is_wrapped(tmp_path: Path, captured: Capture) -> None:
    """It has another loader than files have."""
    with zipfile.ZipFile(tmp_path / "shop.zip", "w") as archive:
        archive.writestr("shop_zipped.py", "def f(): return __loader__.get_source(__name__)\n")
    sys.path.insert(0, str(tmp_path / "shop.zip"))
    try:
        with instrument(tasks=["shop_zipped:f"]):
            module: Any = importlib.import_module("shop_zipped")
            assert module.f().startswith("def f")
    finally:
        sys.path.remove(str(tmp_path / "shop.zip"))
        del sys.modules["shop_zipped"]
    captured.assert_tree("f")


def test_built_in_modules_and_namespace_packages(folder: Path) -> None:
    """The loader of a namespace package runs no code; the loader of a built-in module is a class."""
    (folder / "shop_space").mkdir()
    (folder / "shop_space" / "inner.py").write_text("def f(): pass\n")
    original = sys.modules.pop("_heapq", None)
    try:
        with instrument(tasks=["shop_space.*:f", "_heapq:heappush"]) as undo:
            importlib.import_module("shop_space.inner")
            importlib.import_module("_heapq")
            assert undo.wrapped == ["_heapq:heappush", "shop_space.inner:f"]
    finally:
        for name in ("shop_space", "shop_space.inner", "_heapq"):
            sys.modules.pop(name, None)
        if original is not None:
            sys.modules["_heapq"] = original


def test_other_import_hooks_also_work(captured: Capture) -> None:
    """wrapt's post-import hooks, which call all finders again, fire as well."""
    import wrapt

    seen = []
    wrapt.register_post_import_hook(lambda module: seen.append(module.reserve), "shop.stock")
    with instrument(tasks=["shop.stock:reserve"]):
        stock = shopping.load("stock")
        stock.reserve("a")
    assert len(seen) == 1
    captured.assert_tree("reserve")


def test_threads_may_import_at_the_same_time(folder: Path, captured: Capture) -> None:
    """A third thread instruments and undoes. Each module is imported once, with the correct functions."""
    shopping.write(folder, **{f"m{number}": "def f(): return 1\n" for number in range(40)})
    failures: list[BaseException] = []

    def load(offset: int) -> None:
        try:
            for number in range(40):
                assert shopping.load(f"m{(number + offset) % 40}").f() == 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=load, args=(offset,)) for offset in (0, 20)]
    with instrument(tasks=["shop.*:f"]) as undo:
        shopping.load("m1")  # a name in a module that is still being imported is refused
        for thread in threads:
            thread.start()
        for _ in range(20):
            instrument(tasks=["shop.m1:f", "shop.m2*:f"])()
        for thread in threads:
            thread.join(30)
        assert failures == []
        assert len(undo.wrapped) == 40
    assert type(shopping.load("m1").f).__name__ == "function"
