"""Every kind of callable can be decorated and keeps its behaviour."""

from __future__ import annotations

import abc
import asyncio
import copy
import doctest
import functools
import inspect
import pickle
import pydoc
from dataclasses import dataclass
from typing import Any, Protocol, overload, runtime_checkable

import pytest

from otelflow import task


def test_a_function(subject: Any) -> None:
    """Positional and keyword arguments, defaults, and the value."""

    @subject.decorate
    def add(x: int, /, y: int = 2, *more: int, z: int, **rest: int) -> Any:
        return x, y, more, z, rest

    assert subject.call(add, 1, z=3, q=4) == (1, 2, (), 3, {"q": 4})
    assert subject.span.name == "add"


def test_a_coroutine_function(subject: Any) -> None:
    """Awaiting the call returns its value."""

    @subject.decorate
    async def add(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    assert subject.run(add, 1) == 2
    assert subject.span.name == "add"


def test_a_method(subject: Any) -> None:
    """On the instance and through the class."""

    class Thing:
        @subject.decorate
        def method(self, x: int) -> Any:
            return type(self).__name__, x

    thing = Thing()
    assert subject.call(thing.method, 1) == subject.call(Thing.method, thing, 1) == ("Thing", 1)


def test_a_classmethod_above_the_decorator(subject: Any) -> None:
    """Called on the class and on an instance."""

    class Thing:
        @classmethod
        @subject.decorate
        def method(cls, x: int) -> Any:
            return cls.__name__, x

    assert subject.call(Thing.method, 1) == subject.call(Thing().method, 1) == ("Thing", 1)


def test_a_classmethod_below_the_decorator(subject: Any) -> None:
    """Called on the class and on an instance."""

    class Thing:
        @subject.decorate
        @classmethod
        def method(cls, x: int) -> Any:
            return cls.__name__, x

    assert subject.call(Thing.method, 1) == subject.call(Thing().method, 1) == ("Thing", 1)


def test_a_staticmethod_above_the_decorator(subject: Any) -> None:
    """Called on the class and on an instance."""

    class Thing:
        @staticmethod
        @subject.decorate
        def method(x: int) -> int:
            return x

    assert subject.call(Thing.method, 1) == subject.call(Thing().method, 1) == 1


def test_a_staticmethod_below_the_decorator(subject: Any) -> None:
    """Called on the class and on an instance."""

    class Thing:
        @subject.decorate
        @staticmethod
        def method(x: int) -> int:
            return x

    assert subject.call(Thing.method, 1) == subject.call(Thing().method, 1) == 1


def test_a_property_above_the_decorator(subject: Any) -> None:
    """Reading it runs the decorated function."""

    class Thing:
        @property
        @subject.decorate
        def value(self) -> int:
            return 3

    result: Any = Thing().value
    assert (result.execute().return_value if subject.deferred else result) == 3


def test_an_overridden_method_can_call_the_base_method(subject: Any) -> None:
    """super() finds the decorated method of the base class."""

    class Base:
        @subject.decorate
        def method(self) -> str:
            return "base"

    class Derived(Base):
        @subject.decorate
        def method(self) -> str:
            return "derived, " + subject.call(super().method)

    assert subject.call(Derived().method) == "derived, base"
    assert len(subject.spans) == 2


def test_a_partial(subject: Any) -> None:
    """functools.partial objects, of functions and of coroutine functions."""

    async def add(x: int, y: int) -> int:
        return x + y

    assert subject.call(subject.decorate(functools.partial(max, 3)), 5) == 5
    assert subject.run(subject.decorate(functools.partial(add, 1)), 2) == 3


def test_a_callable_object(subject: Any) -> None:
    """Objects with __call__, plain and async."""

    class Plain:
        def __call__(self, x: int) -> int:
            return x

    class Async:
        async def __call__(self, x: int) -> int:
            return x

    assert subject.call(subject.decorate(Plain()), 1) == 1
    assert subject.run(subject.decorate(Async()), 2) == 2


def test_a_lambda_and_a_builtin(subject: Any) -> None:
    """Callables without their own signature or name."""
    assert subject.call(subject.decorate(lambda x: x), 1) == 1
    assert subject.call(subject.decorate(len), [1, 2]) == 2


def test_functools_cache_below_the_decorator(subject: Any) -> None:
    """The cache works, and its methods are available."""
    calls: list[int] = []

    @subject.decorate
    @functools.cache
    def cached(x: int) -> int:
        calls.append(x)
        return x

    assert subject.call(cached, 1) == subject.call(cached, 1) == 1
    assert calls == [1]
    assert cached.cache_info().hits == 1


def test_functools_cache_above_the_decorator(subject: Any) -> None:
    """The second call does not reach the decorated function."""
    calls: list[int] = []

    def counted(x: int) -> int:
        calls.append(x)
        return x

    cached = functools.cache(subject.decorate(counted))
    assert subject.call(cached, 1) == 1
    assert cached(1) is cached(1)
    assert cached.cache_info().misses == 1


def test_overloads(subject: Any) -> None:
    """The implementation is decorated."""

    @overload
    def either(x: int) -> int: ...
    @overload
    def either(x: str) -> str: ...
    @subject.decorate
    def either(x: Any) -> Any:
        return x

    assert (subject.call(either, 1), subject.call(either, "a")) == (1, "a")


def test_an_abstract_method_stays_abstract(subject: Any) -> None:
    """Its class cannot be instantiated."""

    class Base(abc.ABC):
        @subject.decorate
        @abc.abstractmethod
        def method(self) -> None: ...

    with pytest.raises(TypeError, match="abstract"):
        Base()


def test_a_dataclass_method(subject: Any) -> None:
    """Also of a dataclass with slots."""

    @dataclass(slots=True)
    class Point:
        x: int

        @subject.decorate
        def double(self) -> int:
            return self.x * 2

    assert subject.call(Point(2).double) == 4


def test_a_protocol(subject: Any) -> None:
    """isinstance works with a runtime protocol."""

    @runtime_checkable
    class Greets(Protocol):
        def greet(self) -> str: ...

    class Person:
        @subject.decorate
        def greet(self) -> str:
            return "hello"

    assert isinstance(Person(), Greets)


def test_inspect_returns_the_facts_of_the_function(subject: Any) -> None:
    """Signature, names, docstring, annotations, and the kind of function."""

    def plain(x: int, *, y: str = "a") -> float:
        """Says something."""
        return 1.0

    async def coroutine() -> None: ...

    def generator() -> Any:
        yield

    async def async_generator() -> Any:
        yield

    decorated = subject.decorate(plain)
    assert inspect.signature(decorated) == inspect.signature(plain)
    for name in ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__", "__defaults__"):
        assert getattr(decorated, name) == getattr(plain, name)
    assert decorated.__wrapped__ is plain
    assert inspect.unwrap(decorated) is plain
    assert inspect.iscoroutinefunction(subject.decorate(coroutine))
    assert inspect.isgeneratorfunction(subject.decorate(generator))
    assert inspect.isasyncgenfunction(subject.decorate(async_generator))
    assert not inspect.iscoroutinefunction(decorated)
    assert "Says something." in pydoc.render_doc(decorated)
    assert callable(decorated)


def test_copy_and_deepcopy_return_the_same_object(subject: Any) -> None:
    """As they do for a function."""

    @subject.decorate
    def plain() -> int:
        return 1

    assert copy.copy(plain) is plain
    assert copy.deepcopy({"f": plain})["f"] is plain


def at_module_level() -> int:
    """Pickled by name.

    >>> 1 + 1
    2
    """
    return 1


at_module_level = task(at_module_level)


def test_a_decorated_function_is_pickled_by_name() -> None:
    """As a function is."""
    assert pickle.loads(pickle.dumps(at_module_level)) is at_module_level


def test_doctests_are_found() -> None:
    """doctest's finder returns the examples of a decorated function."""
    import sys

    tests = doctest.DocTestFinder().find(at_module_level, "at_module_level", module=sys.modules[__name__])
    assert [len(test.examples) for test in tests] == [1]


def test_pytest_sees_the_parameters_of_a_decorated_test(subject: Any) -> None:
    """It reads them from the signature."""
    from _pytest.compat import getfuncargnames

    @subject.decorate
    def test_something(tmp_path: Any, capsys: Any) -> None: ...

    assert getfuncargnames(test_something, name="test_something") == ("tmp_path", "capsys")


@pytest.fixture
@task
def decorated_fixture(tmp_path: Any) -> Any:
    """Return the folder; this fixture is a task."""
    return tmp_path


@task
def test_a_decorated_test_and_its_decorated_fixture(decorated_fixture: Any, tmp_path: Any) -> None:
    """pytest passes their fixtures to both."""
    assert decorated_fixture == tmp_path
