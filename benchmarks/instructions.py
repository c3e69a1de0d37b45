"""``make bench-instructions``: count the instructions of the hot path with callgrind; the numbers are stable.

Each case runs under callgrind, which counts only while the case is repeated, not while the program starts. The command
writes ``INSTRUCTIONS.md``. With ``--only TEXT,...`` it only prints the cases whose name contains one of the texts.
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
"""The cases: kind of telemetry, way of calling, and function."""

IMPORTS = {"import, the API and wrapt alone": importing.BELOW, "import": importing.WHOLE}
"""Programs that are counted as a whole, minus a program that does nothing."""

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
"""The case that another one is compared with."""

ABOUT = """\
# Instructions of the hot path

Written by `make bench-instructions`: instructions that the processor executes for one call, counted by callgrind with
`PYTHONHASHSEED=0`, the garbage collector off, and a span processor that does nothing. Two runs on one machine with one
Python differ by less than 1 %, whatever else the machine does. Between machines and Pythons the numbers differ; the
ratios hardly do. An import is that of one program with compiled modules, less what a program that does nothing takes.

To judge a change to the path of a task: run it with the change and without (`git stash`), on the same machine, for the
cases that it touches (`python benchmarks/instructions.py --only "task,by hand"`). A difference of 2 % is a difference.
"""


def count_case(case: str) -> int:
    """Return the instructions of one repetition. Callgrind counts only the work, not the program's preparation."""
    if case in IMPORTS:
        return count_import(IMPORTS[case])
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
        output = program.stderr.read()
    return parse_count(output) // NUMBER


def count_import(statement: str) -> int:
    """Return the instructions of an import, in a separate process."""
    with importing.compiled() as environment:
        processes = [
            subprocess.run(
                [*CALLGRIND, sys.executable, "-c", program],
                env={**environment, "PYTHONHASHSEED": "0"},
                capture_output=True,
                text=True,
                check=True,
            )
            for program in (statement, "pass")
        ]
    total, empty = [parse_count(process.stderr) for process in processes]
    return total - empty


def parse_count(output: str) -> int:
    """Return the number in callgrind's final output."""
    match = re.search(r"Collected : (\d+)", output)
    assert match, output
    return int(match[1])


def run(case: str) -> None:
    """Run a case as the program under callgrind. Before and after its work it prints a line, and waits for one."""
    import gc

    mode, way, name = CASES[case]
    sample = prepare(mode, way, name)
    gc.collect()
    gc.disable()
    for work in (lambda: sample(NUMBER), lambda: None):
        print("ready", flush=True)
        sys.stdin.readline()
        work()


def prepare(mode: str, way: str, name: str) -> Callable[[int], Any]:
    import by_hand
    import cases

    spans: list[Any] = []
    processor = None
    if mode != "no-sdk":
        from opentelemetry.sdk.trace import SpanProcessor

        class CollectSpans(SpanProcessor):
            def on_end(self, span: Any) -> None:
                if way == "encoded":
                    spans.append(span)

        processor = CollectSpans()
    by_hand.set_up(mode, processor)
    function = getattr(by_hand if way == "hand" else cases, name, cases.add)
    calls = cases.calls(cases.catching(function) if name.endswith("raises") else function)
    if way == "hand":
        sample = cases.in_root_by_hand(calls)
    elif way == "listened":
        sample = cases.in_flow(cases.with_listener(calls))
    elif way == "ours":
        sample = cases.in_flow(calls)
    else:
        return encoding(name, cases.in_flow(cases.calls(cases.add)), spans)
    sample(20)
    return sample


def encoding(encoder_name: str, run_tasks: Callable[[int], Any], spans: list[Any]) -> Callable[[int], Any]:
    """Return a sample that encodes that many tasks. The tasks run before."""
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    from otelflow._otlp.request_encoder import encode

    run_tasks(NUMBER)
    encoder = encode if encoder_name == "otelflow" else lambda spans: encode_spans(spans).SerializeToString()
    encoder(spans[:2])
    return lambda number: encoder(spans[:number])


def table(counts: dict[str, int]) -> str:
    lines = ["| | instructions | ratio | to |", "| --- | --- | --- | --- |"]
    for case, number in counts.items():
        base = BASES.get(case, "")
        ratio = f"{number / counts[base]:.3f} | {base}" if base in counts else " | "
        lines.append(f"| {case} | {number:,} | {ratio} |")
    return "\n".join(lines)


def main() -> None:
    if sys.argv[1:2] == ["--run"]:
        run(sys.argv[2])
        return
    filters = sys.argv[2].split(",") if sys.argv[1:2] == ["--only"] else []
    names = [case for case in (*CASES, *IMPORTS) if not filters or any(text in case for text in filters)]
    with ThreadPoolExecutor(2) as pool:
        counts = dict(zip(names, pool.map(count_case, names), strict=True))
    print(table(counts))
    if not filters:
        platform_line = f"Python {platform.python_version()} on {platform.machine()}, opentelemetry-sdk "
        platform_line += f"{version('opentelemetry-sdk')}, wrapt {version('wrapt')}."
        (HERE / "INSTRUCTIONS.md").write_text(f"{ABOUT}\n{table(counts)}\n\n{platform_line}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
