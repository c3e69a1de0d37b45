"""``otelflow check``: what a configuration would instrument, and its errors."""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import shopping
from no_code_programs import TARGETS, run_otelflow

# --- otelflow check ---------------------------------------------------------------------------------------------------


def run_check(folder: Path, text: str, *words: str, **environment: str) -> tuple[int, list[str]]:
    """Run ``otelflow check`` with a configuration. Returns the exit status and the lines."""
    (folder / "otelflow.toml").write_text(textwrap.dedent(text))
    result = run_otelflow(folder, "check", *words, **environment)
    assert result.stderr == ""
    return result.returncode, result.stdout.splitlines()


def test_check_lists_the_matches(folder: Path) -> None:
    """Each target has its line and its matches; exit status 0."""
    text = TARGETS + '[[task]]\ntarget = "shop.*:f*"\n[[task]]\ntarget = "__main__:main"\n'
    assert run_check(folder, text) == (
        0,
        [
            "✓    3  flow  shop.use:both",
            "✓    5  task  shop.stock:reserve",
            "✓    8  task  shop.*:f*  2 functions: shop.stock:fail, shop.stock:fetch",
            "✓   10  task  __main__:main  (of __main__: only `otelflow run` can instrument it)",
            "otelflow.toml: 4 targets, 4 functions",
        ],
    )


def test_check_lists_the_errors(folder: Path) -> None:
    """Each target has its reason below it, with the nearest correct name; exit status 1."""
    shopping.write(folder, broken="raise RuntimeError('as ever')\n", leaves="raise SystemExit(3)\n")
    status, lines = run_check(
        folder,
        """
        [[task]]
        target = "shop.stok:reserve"
        [[task]]
        target = "shoop.stock:reserve"
        [[task]]
        target = "shop.stock:Bas.place"
        [[task]]
        target = "shop.broken:f"
        [[task]]
        target = "shop.leaves:f"
        [[task]]
        target = "shop.use:nothing_*"
        [[task]]
        target = "shop.stock:reserve"
        attributes = { a = "ord.id" }
        [[task]]
        target = "shop.stock:fetch"
        attributes = { a = "skus.id" }
        [[task]]
        tagret = "x"
        """,
    )
    assert status == 1
    assert [line.strip() for line in lines if not line.startswith(("✓", "!"))] == [
        "✗ otelflow.toml:21: [[task]] has no key 'tagret'. Did you mean 'target'? "
        "Its keys: attributes, exclude, limit, min_duration, name, target.",
        '✗ otelflow.toml:20: [[task]] has no target. Use target = "module:name".',
        "✗    3  task  shop.stok:reserve",
        "there is no module 'shop.stok'. Did you mean 'shop.stock'?",
        "✗    5  task  shoop.stock:reserve",
        "there is no module 'shoop'. Did you mean 'shop'?",
        "✗    7  task  shop.stock:Bas.place",
        "shop.stock has no 'Bas'. Did you mean 'Base'?",
        "✗    9  task  shop.broken:f",
        "importing shop.broken raised RuntimeError: as ever",
        "✗   11  task  shop.leaves:f",
        "importing shop.leaves raised SystemExit: 3",
        "✗   13  task  shop.use:nothing_*",
        "it matches no function",
        "✗   18  task  shop.stock:fetch",
        "there is no parameter 'skus'. Did you mean 'sku'? Its parameters: sku",
        "otelflow.toml: 8 targets, 2 functions",
    ]


def test_check_warns_of_double_spans_and_held_functions(folder: Path) -> None:
    """Warns of functions that are decorated, instrumented by a contrib package, named twice, or held by an object.

    With --strict, warnings are errors.
    """
    shopping.write(
        folder,
        own="from otelflow import task\n@task\ndef decorated(): pass\n",
        api="""
        class Route:
            def __init__(self, endpoint): self.endpoint = endpoint
        def handler(): pass
        routes = [Route(handler)]
        """,
    )
    text = """
    [[task]]
    target = "shop.own:decorated"
    [[task]]
    target = "httpx:HTTPTransport.handle_request"
    [[task]]
    target = "shop.stock:fail"
    [[task]]
    target = "shop.*:f*"
    [[flow]]
    target = "shop.api:handler"
    """
    status, lines = run_check(folder, text)
    assert status == 0
    assert [line.strip() for line in lines if not line.startswith("✓")] == [
        "!    3  task  shop.own:decorated",
        "shop.own:decorated is already decorated with otelflow and stays unchanged",
        "!    5  task  httpx:HTTPTransport.handle_request",
        "httpx:HTTPTransport.handle_request is also instrumented by opentelemetry.instrumentation.httpx: "
        "each call will have two spans",
        "!    9  task  shop.*:f*  2 functions: shop.stock:fail, shop.stock:fetch",
        "shop.stock:fail is also named at otelflow.toml:7, which takes effect",
        "!   11  flow  shop.api:handler",
        "shop.api:handler is also stored in shop.api.Route: its calls make no spans. Name a function that it calls",
        "otelflow.toml: 5 targets, 5 functions",
    ]
    assert run_check(folder, text, "--strict")[0] == 1


def test_check_counts_calls_with_a_profile(folder: Path) -> None:
    """Calls are counted in all processes of the command. A function that is called in a tight loop is hot."""
    (folder / "busy.py").write_text(
        textwrap.dedent(
            """
            import multiprocessing, sys
            from shop import stock, use
            if __name__ == "__main__":
                for number in range(6000):
                    stock.reserve("a")
                child = multiprocessing.get_context("spawn").Process(target=use.both)
                child.start(); child.join()
                use.both()
                sys.exit(3)
            """
        )
    )
    text = TARGETS + '[[task]]\ntarget = "shop.stock:fail"\n'
    status, lines = run_check(folder, text, "--profile", "--", sys.executable, "busy.py", PYTHONPATH=str(folder))
    assert status == 0
    profile = lines[lines.index(next(line for line in lines if line.startswith("profile of"))) :]
    assert profile[0].endswith("busy.py' (exit status 3):")
    assert profile[1].startswith("!     6,006 calls  shop.stock.reserve  up to ")
    assert profile[2].strip() == (
        "hot: a span for each call costs too much. Remove otelflow.toml:5, or set min_duration for a task"
    )
    assert profile[3].startswith("✓         2 calls  shop.use.both  up to 1 in one second")
    assert (
        run_check(folder, text, "--strict", "--profile", "--", sys.executable, "busy.py", PYTHONPATH=str(folder))[0]
        == 1
    )


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--profile"], "Use --profile together with a command"),
        (["--", "true"], "Use --profile together with a command"),
        (["--config", "no.toml"], "no.toml: cannot be read"),
        (["--profile", "--", "no-such-command"], "There is no command 'no-such-command'"),
    ],
)
def test_wrong_usage_of_check(folder: Path, words: list[str], text: str) -> None:
    """Exit status 1, and a line that says what to do."""
    result = run_otelflow(folder, "check", *words)
    assert result.returncode == 1
    assert text in result.stdout + result.stderr


def test_check_without_a_configuration_fails(tmp_path: Path) -> None:
    """Exit status 1, and one line."""
    result = run_otelflow(tmp_path, "check")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("otelflow: There is no configuration here")


def test_check_prints_the_schema(tmp_path: Path) -> None:
    """Editors can read it from a file. No file is written."""
    import json

    result: Any = run_otelflow(tmp_path, "check", "--schema")
    assert json.loads(result.stdout)["title"] == "otelflow.toml"
    assert os.listdir(tmp_path) == []
