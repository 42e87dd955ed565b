"""The parser by itself: what it gives up, what it survives, and what it makes of files that were made against it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from diagnosis.base.errors import LabError
from diagnosis.target.objects import defines, open_regular, read_object
from diagnosis.target.parser.answers import object_of
from diagnosis.target.parser.client import (
    ANSWERED_SHARE,
    ORDINARY_START_SECONDS,
    SLOWEST_PACE,
    Budget,
    Parser,
    ParserError,
    pace_of,
)
from diagnosis.target.parser.confine import Limits
from tests.hostile.elf_files import FILES, huge_note
from tests.hostile.running import MAX_BYTES, MIB
from tests.support.programs import compile_c

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diagnosis.target.parser.protocol import Message

EVERY_QUESTION: tuple[tuple[str, dict[str, Any]], ...] = (
    ("facts", {"table": ".dynsym", "names": None}),
    ("facts", {"table": ".symtab", "names": ["malloc"]}),
    ("defines", {"names": ["malloc", "free"]}),
    ("open", {"id": 1, "kind": "debug"}),
    ("lookup", {"id": 1, "addresses": [0, 0x100, 1 << 63, (1 << 64) - 1]}),
    ("open", {"id": 2, "kind": "symbols"}),
    ("symbols", {"names": ["malloc"], "ends": ["free"], "variables": ["environ"]}),
    ("debug_link", {}),
    ("is_linked", {"build_id": "00ff", "checksum": 0}),
    ("cfi", {"patterns": ["c3", "0f05"]}),
)


@pytest.fixture(scope="module")
def parser() -> Iterator[Parser]:
    with Parser() as parser:
        yield parser


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = "int here(void);\nint here(void) { return 1; } // in here\n"
    return compile_c(source, tmp_path_factory.mktemp("library") / "libhere.so", "-g", "-shared", "-fPIC")


def ask(parser: Parser, path: Path, operation: str, **fields: Any) -> Message:  # noqa: ANN401
    descriptor = open_regular(path)
    try:
        return parser.ask(operation, fields, files=[descriptor], budget=Budget())
    finally:
        os.close(descriptor)


def status(parser: Parser) -> dict[str, str]:
    assert parser._process
    lines = Path(f"/proc/{parser._process.pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


# --- what it gives up ---


def test_it_has_no_capability_and_can_get_none(parser: Parser, library: Path) -> None:
    ask(parser, library, "cfi", patterns=[])
    found = status(parser)
    assert [int(found[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")] == [0] * 4
    assert found["NoNewPrivs"] == "1"


def test_where_the_machine_has_libseccomp_its_system_calls_are_filtered(parser: Parser, library: Path) -> None:
    ask(parser, library, "cfi", patterns=[])
    if "seccomp" not in parser.holds:
        pytest.skip("this machine has no libseccomp.so.2")
    assert status(parser)["Seccomp"] == "2"


@pytest.mark.root
def test_it_has_a_user_and_a_root_directory_of_its_own(parser: Parser, library: Path) -> None:
    ask(parser, library, "cfi", patterns=[])
    assert parser._process
    assert len(set(status(parser)["Uid"].split())) == 1
    assert int(status(parser)["Uid"].split()[0]) > 65_535
    assert status(parser)["Groups"] == ""
    assert str(Path(f"/proc/{parser._process.pid}/root").readlink()).endswith(" (deleted)")


# Everything that it may not do, tried one after the other; prints what came of each.
TRIES = """
import ctypes, json, mmap, os, resource, socket, sys
from diagnosis.target.parser.confine import Limits, confine
libc = ctypes.CDLL(None, use_errno=True)
holds = confine(os.getppid(), Limits())
found = {"holds": sorted(holds)}
def attempt(name, call):
    try:
        result = call()
        found[name] = "done" if not (isinstance(result, int) and result < 0) else os.strerror(ctypes.get_errno())
    except BaseException as error:
        found[name] = type(error).__name__
attempt("open a file", lambda: os.open("/etc/passwd", os.O_RDONLY))
attempt("list files", lambda: os.listdir("/"))
attempt("make a file", lambda: os.open("x", os.O_RDWR | os.O_CREAT))
attempt("fork", lambda: os.fork() or os._exit(0))
attempt("exec", lambda: os.execv(sys.executable, [sys.executable, "-c", ""]))
attempt("connect", lambda: socket.create_connection(("127.0.0.1", 9), timeout=1))
attempt("become root", lambda: os.setuid(0))
attempt("signal the tracer", lambda: os.kill(os.getppid(), 0))
attempt("raise a limit", lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40)))
attempt("take memory", lambda: bytearray(400 << 20))
attempt("memory for code", lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC))
attempt("trace", lambda: libc.ptrace(16, os.getppid(), 0, 0))
os.write(1, json.dumps(found).encode())
os._exit(0)
"""


@pytest.mark.root
def test_what_takes_it_over_can_do_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", TRIES], capture_output=True, text=True, timeout=60, check=False)
    found = json.loads(done.stdout)
    assert "user" in found.pop("holds")
    assert {name for name, result in found.items() if result == "done"} == set(), done.stderr


# --- what it survives ---


@pytest.mark.parametrize("name", sorted(FILES))
def test_no_file_stops_hangs_or_fills_it_for_good(name: str, parser: Parser, library: Path, tmp_path: Path) -> None:
    """GIVEN a file that was made against it THEN every question ends, and the next file is read as ever."""
    made = FILES[name](tmp_path / f"{name}.so")
    assert made.stat().st_blocks * 512 < 16 * MIB
    for operation, fields in EVERY_QUESTION:
        try:
            ask(parser, made, operation, **fields)
        except ParserError as error:
            assert len(str(error)) < 5000  # noqa: PT017 - either is an end
        if parser._process and parser._process.poll() is None:
            assert int(status(parser)["VmHWM"].split()[0]) * 1024 < MAX_BYTES
    assert list(object_of(ask(parser, library, "facts", table=".dynsym", names=["here"])).exports) == ["here"]


def test_a_file_that_takes_too_long_is_given_up(library: Path) -> None:
    """GIVEN less time than any file takes THEN the question ends, and the parser is another one afterwards."""
    with Parser(Limits(cpu_seconds=0.0)) as parser:
        with pytest.raises(ParserError, match="took too long") as caught:  # noqa: PT012 - the first look may come late
            for _ in range(10_000):
                ask(parser, library, "cfi", patterns=[])
        assert caught.value.lost
        parser._limits = Limits()
        assert ask(parser, library, "cfi", patterns=[]).payload


def test_a_target_that_stops_it_again_and_again_is_not_read_any_more(library: Path, tmp_path: Path) -> None:
    bomb = FILES["bomb_by_size"](tmp_path / "bomb.so")
    budget = Budget(deaths=3)
    with Parser() as parser, bomb.open("rb") as hostile, library.open("rb") as good:
        reasons = []
        for number in range(5):
            fields = {"id": number, "kind": "debug"}
            with pytest.raises(ParserError) as caught:
                parser.ask("open", fields, files=[hostile.fileno()], budget=budget)
            reasons.append(str(caught.value))
        assert reasons[3:] == ["its process has stopped the parser too often, or kept it too long"] * 2
        assert parser.ask("cfi", {"patterns": []}, files=[good.fileno()], budget=Budget()).payload, (
            "another target is read as ever"
        )


def _long_map(folder: Path) -> Path:
    """A perf map that takes the parser some 100 MiB."""
    path = folder / "perf-1.map"
    path.write_text("".join(f"{0x7F0000000000 + 64 * n:x} 40 {'a_long_name_' * 5}{n}\n" for n in range(200_000)))
    return path


def test_what_earlier_questions_left_in_its_memory_costs_no_file_its_names(tmp_path: Path) -> None:
    """GIVEN room for one of them and not for two THEN the second one is read by a parser that starts with it."""
    made = _long_map(tmp_path)
    budget = Budget()
    with Parser(Limits(data=160 << 20)) as parser, made.open("rb") as file:
        pids = set()
        for number in range(6):
            parser.ask("open", {"id": number, "kind": "perf map"}, files=[file.fileno()], budget=budget)
            assert parser._process
            pids.add(parser._process.pid)
    assert len(pids) > 1
    assert budget.deaths == Budget().deaths - len(pids) + 1


def test_what_no_parser_has_room_for_is_asked_twice_and_no_more(library: Path, tmp_path: Path) -> None:
    made = _long_map(tmp_path)
    budget = Budget()
    with Parser(Limits(data=80 << 20)) as parser, made.open("rb") as file:
        assert ask(parser, library, "facts", table=".dynsym", names=["here"]).payload
        with pytest.raises(ParserError, match="ran out of memory"):
            parser.ask("open", {"id": 1, "kind": "perf map"}, files=[file.fileno()], budget=budget)
    assert budget.deaths == Budget().deaths - 2


def test_a_target_whose_files_take_long_again_and_again_is_not_read_any_more(library: Path) -> None:
    """Each in less than its time: a thousand files of four seconds are an hour, in which a report does not come."""
    budget = Budget(answered=0.02)
    with Parser() as parser, library.open("rb") as file:
        with pytest.raises(ParserError, match="kept it too long"):  # noqa: PT012 - how long each takes is not said
            for _ in range(10_000):
                parser.ask("cfi", {"patterns": []}, files=[file.fileno()], budget=budget)
        assert ask(parser, library, "cfi", patterns=[]).payload


def test_a_target_that_is_traced_for_days_may_take_a_share_of_that_time() -> None:
    """A JIT compiler's map is read anew whenever it has grown."""
    now = time.monotonic()
    budget = Budget(answered=100.0, refilled=now)
    budget.answered -= 200.0
    assert budget.spent
    budget.refilled = now - 3600.0
    assert not budget.spent
    assert budget.answered == pytest.approx(ANSWERED_SHARE * 3600.0 - 100.0, abs=1.0)
    budget.refilled = now - 86_400.0
    assert not budget.spent
    assert budget.answered == 100.0, "no more than at first: it cannot be saved up for days"


def test_a_file_that_is_cut_short_while_it_is_open_is_an_error(parser: Parser, library: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.so"
    cut.write_bytes(library.read_bytes())
    with cut.open("rb") as stream:
        os.truncate(cut, 700)
        with pytest.raises(ParserError) as caught:
            parser.ask("open", {"id": 3, "kind": "debug"}, files=[stream.fileno()], budget=Budget())
    assert not caught.value.lost, "it is alive"


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_only_regular_files_are_opened(kind: str, tmp_path: Path) -> None:
    made = {"pipe": tmp_path / "pipe", "folder": tmp_path, "device": Path("/dev/zero")}[kind]
    if kind == "pipe":
        os.mkfifo(made)  # to open it would take until somebody writes
    with pytest.raises(LabError, match="it is no regular file"):
        read_object(made, "it")
    assert not defines(made, {"malloc"})


def test_an_error_shows_no_control_character(tmp_path: Path) -> None:
    made = huge_note(tmp_path / "note.so")
    with pytest.raises(LabError) as caught:
        read_object(made.with_name("gone"), "libc\x1b]0;owned\x07")
    assert str(caught.value).isprintable()


def test_a_slow_machine_gets_more_time_and_an_ordinary_one_does_not() -> None:
    assert pace_of(0.12) == 1.0
    assert pace_of(10 * ORDINARY_START_SECONDS) == pytest.approx(10)
    assert pace_of(1e9) == SLOWEST_PACE


def test_the_pace_is_measured_when_the_parser_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diagnosis.target.parser.client.ORDINARY_START_SECONDS", 1e-6)
    with Parser() as parser:
        assert parser.pace == 1.0
        parser.start()
        assert parser.pace == SLOWEST_PACE
