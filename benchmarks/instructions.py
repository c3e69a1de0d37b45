"""``make bench-instructions``: how many instructions the hot path takes, by callgrind; a figure that does not move.

Each case runs under callgrind, which counts while the case is repeated, and not while the program starts. Writes
``INSTRUCTIONS.md``; with ``--only TEXT,...`` it prints the cases whose name has one of them.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "cases"))

import importing

HERE = Path(__file__).parent
NUMBER = 500
CALLGRIND = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]

CASES = {
    "by hand": ("recording", "hand", "add"),
    "by hand, the SDK's minimal form": ("recording", "hand", "minimal"),
    "by hand + message": ("recording", "hand", "add_message"),
    "by hand + artifact": ("recording", "hand", "add_artifact"),
    "task": ("recording", "ours", "add"),
    "task + message": ("recording", "ours", "add_message"),
    "by hand, raises": ("recording", "hand", "add_raises"),
    "task that raises": ("recording", "ours", "add_raises"),
    "task + artifact": ("recording", "ours", "add_artifact"),
    "task, one listener": ("recording", "listened", "add"),
    "by hand, sampled out": ("sampled-out", "hand", "add"),
    "task, sampled out": ("sampled-out", "ours", "add"),
    "by hand, no SDK": ("no-sdk", "hand", "add"),
    "task, no SDK": ("no-sdk", "ours", "add"),
    "encoding a task": ("recording", "encoded", "otelflow"),
    "encoding a task, upstream's encoder": ("recording", "encoded", "upstream"),
}
"""What is counted: the kind of telemetry, how it is called, and what."""

IMPORTS = {"import, the API and wrapt alone": importing.BELOW, "import": importing.WHOLE}
"""Programs of their own, counted whole, less one that does nothing."""

BASES = {
    "task": "by hand",
    "by hand, the SDK's minimal form": "by hand",
    "task + message": "by hand + message",
    "task that raises": "by hand, raises",
    "task + artifact": "by hand + artifact",
    "task, one listener": "by hand",
    "task, sampled out": "by hand, sampled out",
    "task, no SDK": "by hand, no SDK",
    "encoding a task": "encoding a task, upstream's encoder",
    "import": "import, the API and wrapt alone",
}
"""What a case is compared with."""

ABOUT = """\
# Instructions of the hot path

Written by `make bench-instructions`: instructions that the processor executes for one call, counted by callgrind with
`PYTHONHASHSEED=0`, the garbage collector off, and a span processor that does nothing. Two runs on one machine with one
Python differ by less than 1 %, whatever else the machine does. Between machines and Pythons the numbers differ; the
ratios hardly do. An import is that of one program with compiled modules, less what a program that does nothing takes.

To judge a change to the path of a task: run it with the change and without (`git stash`), on the same machine, for the
cases that it touches (`python benchmarks/instructions.py --only "task,by hand"`). A difference of 2 % is a difference.
"""


def of_one(case: str) -> int:
    """Instructions of one repetition: callgrind counts from when the program is prepared until it has done its work."""
    if case in IMPORTS:
        return of_import(IMPORTS[case])
    command = [*CALLGRIND, "--instr-atstart=no", sys.executable, __file__, "--run", case]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=HERE, env=environment, text=True, **pipes) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stderr is not None
        for switch in ("on", "off"):
            assert program.stdout.readline(), program.stderr.read()
            subprocess.run(["callgrind_control", "-i", switch, str(program.pid)], capture_output=True, check=True)
            program.stdin.write("go on\n")
            program.stdin.flush()
        said = program.stderr.read()
    return collected(said) // NUMBER


def of_import(statement: str) -> int:
    """Instructions of an import, in a process of its own."""
    with importing.compiled() as environment:
        told = [
            subprocess.run(
                [*CALLGRIND, sys.executable, "-c", program],
                env={**environment, "PYTHONHASHSEED": "0"},
                capture_output=True,
                text=True,
                check=True,
            )
            for program in (statement, "pass")
        ]
    whole, nothing = [collected(each.stderr) for each in told]
    return whole - nothing


def collected(said: str) -> int:
    """The number in what callgrind said at its end."""
    found = re.search(r"Collected : (\d+)", said)
    assert found, said
    return int(found[1])


def run(case: str) -> None:
    """The program under callgrind; before and after its work it says so, and waits."""
    import gc

    mode, way, name = CASES[case]
    prepared = prepare(mode, way, name)
    gc.collect()
    gc.disable()
    for work in (lambda: prepared(NUMBER), lambda: None):
        print("ready", flush=True)
        sys.stdin.readline()
        work()


def prepare(mode: str, way: str, name: str) -> Callable[[int], Any]:
    import by_hand
    import cases

    kept: list[Any] = []
    processor = None
    if mode != "no-sdk":
        from opentelemetry.sdk.trace import SpanProcessor

        class Keep(SpanProcessor):
            def on_end(self, span: Any) -> None:
                if way == "encoded":
                    kept.append(span)

        processor = Keep()
    by_hand.set_up(mode, processor)
    function = getattr(by_hand if way == "hand" else cases, name, cases.add)
    calls = cases.calls(cases.catching(function) if name.endswith("raises") else function)
    if way == "hand":
        sample = cases.in_hand_root(calls)
    elif way == "listened":
        sample = cases.in_flow(cases.listened(calls))
    elif way == "ours":
        sample = cases.in_flow(calls)
    else:
        return encoding(name, cases.in_flow(cases.calls(cases.add)), kept)
    sample(20)
    return sample


def encoding(whose: str, make: Callable[[int], Any], kept: list[Any]) -> Callable[[int], Any]:
    """Encodes so many tasks, which are made before."""
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    from otelflow._otlp.request_encoder import encode

    make(NUMBER)
    encoder = encode if whose == "otelflow" else lambda spans: encode_spans(spans).SerializeToString()
    encoder(kept[:2])
    return lambda number: encoder(kept[:number])


def table(found: dict[str, int]) -> str:
    lines = ["| | instructions | ratio | to |", "| --- | --- | --- | --- |"]
    for case, number in found.items():
        base = BASES.get(case, "")
        told = f"{number / found[base]:.3f} | {base}" if base in found else " | "
        lines.append(f"| {case} | {number:,} | {told} |")
    return "\n".join(lines)


def main() -> None:
    if sys.argv[1:2] == ["--run"]:
        run(sys.argv[2])
        return
    wanted = sys.argv[2].split(",") if sys.argv[1:2] == ["--only"] else []
    names = [case for case in (*CASES, *IMPORTS) if not wanted or any(word in case for word in wanted)]
    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(names, pool.map(of_one, names), strict=True))
    print(table(found))
    if not wanted:
        where = f"Python {platform.python_version()} on {platform.machine()}, opentelemetry-sdk "
        where += f"{version('opentelemetry-sdk')}, wrapt {version('wrapt')}."
        (HERE / "INSTRUCTIONS.md").write_text(f"{ABOUT}\n{table(found)}\n\n{where}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
