"""Instrument code with hostile objects, patches, metaclasses and multiple inheritance."""

from __future__ import annotations

import importlib
import logging
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import programs
import pytest
import shopping

from otelflow import instrument
from otelflow.errors import ConfigError
from otelflow.testing import Capture

EDGES = """
import types
from unittest.mock import MagicMock

class Lazy:
    def __getattr__(self, name): raise RuntimeError("working outside of its context")
    @property
    def __class__(self): raise RuntimeError("working outside of its context")
    def __call__(self): return 1

class Recorder:
    names = []
    def __getattr__(self, name):
        self.names.append(name)
        return self

lazy, recorder, mock = Lazy(), Recorder(), MagicMock()

def top(): return 1

class A:
    def m(self): return ["A"]
    @classmethod
    def c(cls): return ["A", cls.__name__]
class B(A): pass
class Mix(A):
    def m(self): return ["Mix"] + super().m()
    @classmethod
    def c(cls): return ["Mix"] + super().c()
class C(B, Mix): pass

class Refuses(type):
    refusing = False
    def __setattr__(cls, name, value):
        if Refuses.refusing and not name.startswith("__abc"): raise TypeError("sealed")
        super().__setattr__(name, value)
class Sealed(metaclass=Refuses):
    def m(self): return "sealed"

@types.coroutine
def step():
    yield
    return 5

def injecting(function):
    import functools
    @functools.wraps(function)
    def inner(*args): return function("the database", *args)
    return inner

@injecting
def login(db, word): return word

class Statics:
    enc = staticmethod(int)
    @staticmethod
    def plain(): return 1
"""


@pytest.fixture(autouse=True)
def edges(tmp_path: Path) -> Iterator[Any]:
    """Import a module of hostile objects."""
    shopping.write(tmp_path, edges=EDGES)
    with shopping.importable(tmp_path):
        module = shopping.load("edges")
        yield module
        module.Refuses.refusing = False


def test_a_pattern_reads_no_attribute_of_an_object(edges: Any, captured: Capture) -> None:
    """Objects in a module are not inspected, not even for ``__class__``."""
    with instrument(tasks=["shop.edges:*", "shop.edges:*.*"]) as undo:
        edges.top()
        assert "shop.edges:top" in undo.wrapped
        importlib.reload(edges)
    assert edges.recorder.names == []
    captured.assert_tree("top")


@pytest.mark.parametrize("name", ["lazy", "recorder", "mock"])
def test_a_named_object_is_wrapped_or_refused(edges: Any, name: str) -> None:
    """``instrument()`` raises nothing else than ConfigError."""
    try:
        instrument(tasks=[f"shop.edges:{name}"])()
    except ConfigError as error:
        assert name in str(error)  # noqa: PT017  # both results are correct


def test_hostile_entries_of_sys_modules_are_skipped(edges: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No attribute of them is read."""
    monkeypatch.setitem(sys.modules, "shop_lazy", edges.lazy)
    monkeypatch.setitem(sys.modules, "shop_recorder", edges.recorder)
    with instrument(tasks=["shop.edges:top", "shop_lazy:f", "shop_recorder:f"]):
        edges.top()
    assert edges.recorder.names == []


def test_a_module_that_replaces_itself_by_an_object(tmp_path: Path) -> None:
    """Its import succeeds, whatever the object does."""
    shopping.write(
        tmp_path,
        replaced="""
        import sys
        class Placeholder:
            def __repr__(self): raise RuntimeError("no")
            def __getattr__(self, name): raise AttributeError(name)
            answer = 5
        sys.modules[__name__] = Placeholder()
        """,
    )
    with instrument(tasks=["shop.replaced:f"]):
        assert shopping.load("replaced").answer == 5


def test_the_first_of_two_targets_takes_effect(edges: Any, captured: Capture) -> None:
    """For methods and functions. A flow and a wide pattern of tasks is the usual configuration."""
    with instrument(flows=["shop.edges:A.m", "shop.edges:top"], tasks=["shop.edges:*", "shop.edges:A.*"]):
        edges.A().m()
        edges.top()
        edges.A.c()
    assert [(run.kind, run.name) for run in captured.spans] == [("flow", "m"), ("flow", "top"), ("task", "c")]


@pytest.mark.parametrize("name", ["m", "c"])
def test_an_inherited_method_follows_the_mro(edges: Any, captured: Capture, name: str) -> None:
    """The next method in the MRO of the object's class is called, as if the class had no wrapper."""
    call = getattr(edges.C(), name)
    original_value = call()
    with instrument(tasks=[f"shop.edges:B.{name}"]):
        assert getattr(edges.C(), name)() == original_value
        assert getattr(edges.B(), name)() == (["A"] if name == "m" else ["A", "B"])
    assert len(captured.tasks) == 2
    captured.clear()
    with instrument(tasks=[f"shop.edges:B.{name}"]), mock.patch.object(edges.A, name, return_value="patched"):
        assert getattr(edges.B(), name)() == "patched"


def test_weak_references_to_methods_work(edges: Any, captured: Capture) -> None:
    """Signals and registries use ``WeakMethod``."""
    with instrument(tasks=["shop.edges:A.m"]):
        item = edges.A()
        method: Any = weakref.WeakMethod(item.m)
        assert method()() == ["A"]
        captured.assert_tree("m")
    assert method()() == ["A"]
    del item
    assert method() is None


def test_a_metaclass_that_later_refuses_changes(
    edges: Any, captured: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    """The undo continues. A wrapper that cannot be removed makes no spans, and can be used again."""
    undo = instrument(tasks=["shop.edges:Sealed.m", "shop.edges:top"])
    edges.Refuses.refusing = True
    with caplog.at_level(logging.WARNING, "otelflow"):
        undo()
    assert edges.Sealed().m() == "sealed"
    assert captured.spans == []
    assert type(edges.top).__name__ == "function"
    edges.Refuses.refusing = False
    with instrument(tasks=["shop.edges:Sealed.m"]) as again:
        edges.Sealed().m()
        assert again.wrapped == ["shop.edges:Sealed.m"]
    captured.assert_tree("m")
    edges.Refuses.refusing = True
    with pytest.raises(ConfigError, match="sealed"):
        instrument(tasks=["shop.edges:Sealed.m"])
    with instrument(tasks=["shop.edges:*.m"]) as rest:
        assert rest.wrapped == ["shop.edges:A.m", "shop.edges:Mix.m"]


def test_a_patch_during_an_import_does_not_affect_the_undo(edges: Any, captured: Capture, tmp_path: Path) -> None:
    """The patch replaces the wrapper while another module is imported."""
    shopping.write(tmp_path, other="def f(): pass\n", edges=EDGES)
    undo = instrument(tasks=["shop.*:*", "shop.*:*.*"])
    with mock.patch("shop.edges.top"), mock.patch.object(edges.A, "m"):
        shopping.load("other")
    undo()
    edges.top()
    edges.A().m()
    assert captured.spans == []
    assert type(edges.top).__name__ == type(vars(edges.A)["m"]).__name__ == "function"


def test_a_patch_that_restores_a_stopped_wrapper(edges: Any, captured: Capture) -> None:
    """The wrapper makes no spans. The next ``instrument()`` wraps the function in it."""
    undo = instrument(tasks=["shop.edges:top"])
    with mock.patch("shop.edges.top"):
        undo()
    edges.top()
    assert captured.spans == []
    with instrument(tasks=["shop.edges:top"]):
        edges.top()
    captured.assert_tree("top")
    assert type(edges.top).__name__ == "function"


def test_awaitable_generators_are_refused(edges: Any) -> None:
    """``inspect`` recognises them neither as coroutines nor as generators."""
    with pytest.raises(ConfigError, match=r"types\.coroutine"):
        instrument(tasks=["shop.edges:step"])


def test_a_decorator_that_adds_an_argument(edges: Any, captured: Capture) -> None:
    """A path must not confuse the caller's first argument with the function's: it may be a password."""
    with instrument(tasks=[{"target": "shop.edges:login", "attributes": {"first": "args.0"}}]):
        assert edges.login("hunter2") == "hunter2"
    assert captured.task("login").attributes["first"] == "hunter2"  # as configured: the wrapper's own first argument
    with pytest.raises(ConfigError, match=r"there is no parameter 'db'\. Its parameters: args"):
        instrument(tasks=[{"target": "shop.edges:login", "attributes": {"db.name": "db"}}])


def test_reloads_do_not_count_towards_the_limit(edges: Any) -> None:
    """The limit counts functions, not imports."""
    with instrument(tasks=[{"target": "shop.edges:A.*", "limit": 2}]) as undo:
        for _ in range(5):
            importlib.reload(edges)
        assert set(undo.wrapped) == {"shop.edges:A.c", "shop.edges:A.m"}
        assert type(vars(edges.A)["m"]).__name__ == "Wrapper"


def test_the_cost_of_an_import_is_constant(tmp_path: Path) -> None:
    """It does not grow with the number of wrapped functions. A large service must not start in quadratic time."""
    shopping.write(tmp_path, **{f"m{n}": "".join(f"def f{i}(): pass\n" for i in range(10)) for n in range(300)})

    def lines(numbers: range) -> int:
        """Return the number of Python lines that run: it does not depend on the load of the machine."""
        number_of_lines = 0

        def count(*_: Any) -> Any:
            nonlocal number_of_lines
            number_of_lines += 1
            return count

        original_trace = sys.gettrace()
        sys.settrace(count)
        try:
            for number in numbers:
                shopping.load(f"m{number}")
        finally:
            sys.settrace(original_trace)
        return number_of_lines

    with instrument(tasks=["shop.*:f*"]):
        first, _, last = (lines(range(start, start + 100)) for start in (0, 100, 200))
    assert last < first * 1.5  # it was more than ten times as much before the fix


def test_objects_of_a_module_are_destroyed_at_exit(tmp_path: Path) -> None:
    """A file that only its destruction closes is complete: the registry keeps no reference at exit."""
    (tmp_path / "holder.py").write_text(
        "import gzip\nfile = gzip.open('out.gz', 'wt')\nfile.write('data' * 10)\ndef work(): return 1\n"
    )
    (tmp_path / "main.py").write_text(
        "from otelflow import instrument\ninstrument(tasks=['holder:work'])\nimport holder\nholder.work()\n"
    )
    for words in (["main.py"], ["-m", "otelflow.cli", "run", "main.py"]):
        (tmp_path / "out.gz").unlink(missing_ok=True)
        result = programs.python("-W", "ignore", *words, cwd=tmp_path, OTEL_TRACES_EXPORTER="none")
        assert result.returncode == 0, result.stderr
        import gzip

        assert gzip.decompress((tmp_path / "out.gz").read_bytes()) == b"data" * 10


PROGRAM = '''
"""A doc."""
from __future__ import annotations
import inspect, pickle, sys, types
from dataclasses import dataclass

number: int = 5
numbers = [number + step for step in range(2)]
exec("next_number = number + 1", locals())
total = eval("number + next_number", vars())
if (walrus := 3) > 2:
    def inside(): return walrus
try:
    class Point:
        def method(self): return __class__.__name__
finally:
    pass
def counts():
    global number
    number += 1
counts()
del walrus
print(locals() is globals(), type(locals()) is dict, number, next_number, total, sorted(__annotations__))
print(__builtins__ is sys.modules["builtins"], type(__loader__).__name__, __cached__, __spec__ and __spec__.name)
print(__file__ == sys.modules["__main__"].__file__, __file__.startswith("/"), sys.argv, __doc__, __package__)
print(inspect.getsource(counts).splitlines()[0], Point().method(), pickle.loads(pickle.dumps(Point())).method())
print(sorted(name for name in globals() if name.startswith("__")))
'''


@pytest.mark.parametrize("words", [["program.py"], ["-m", "program"], ["folder"]])
def test_a_program_has_the_same_environment_as_with_python(tmp_path: Path, words: list[str]) -> None:
    """Its names, its module's names and its arguments are the same: the output does not change."""
    (tmp_path / "program.py").write_text(PROGRAM.lstrip())
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "__main__.py").write_text(PROGRAM.lstrip())
    (tmp_path / "otelflow.toml").write_text('[[task]]\ntarget = "__main__:*"\n[[task]]\ntarget = "__main__:Point.*"\n')

    def output(*command: str) -> str:
        result = programs.python(*command, *words, "x", "-y", cwd=tmp_path, OTEL_TRACES_EXPORTER="none")
        assert result.returncode == 0, result.stderr
        return result.stdout

    assert output("-m", "otelflow.cli", "run") == output()


def test_an_otelflow_error_of_the_program_has_a_traceback(tmp_path: Path) -> None:
    """The command prints only its own errors as one line."""
    (tmp_path / "program.py").write_text("import otelflow\notelflow.FlowRunConfig(max_tasks=-1)\n")
    result = programs.command("run", "program.py", cwd=tmp_path, OTEL_TRACES_EXPORTER="none")
    assert result.returncode == 1
    assert result.stderr.startswith("Traceback (most recent call last):")


def test_a_file_of_the_program_does_not_shadow_a_library(tmp_path: Path) -> None:
    """An exporter does not import a module in the script's folder that has the name of a library."""
    (tmp_path / "queue.py").write_text("raise RuntimeError('not for you')\n")
    (tmp_path / "requests.py").write_text("raise RuntimeError('not for you')\n")
    (tmp_path / "program.py").write_text("print('ran')\n")
    result = subprocess.run(
        [sys.executable, "-P", "-m", "otelflow.cli", "run", "program.py"]
        if sys.version_info >= (3, 11)
        else [str(Path(sys.executable).with_name("otelflow")), "run", "program.py"],
        cwd=tmp_path,
        env=programs.clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.stdout, result.stderr) == ("ran\n", "")
