"""What the runner makes of bpftrace's output, of a libc and of a process."""

from __future__ import annotations

import subprocess
from pathlib import Path

import memleak
import pytest
from symbols import Elf, Image, RefusedError

from diagnosis.target.objects import read_code, read_object
from diagnosis.target.parser.facts import CODE_BYTES
from diagnosis.target.placement import place

# As printed by 0.17 and by 0.23.
OLD = [
    '{"type": "attached_probes", "data": {"probes": 28}}\n',
    "\n",
    '{"type": "map", "data": {"@allocations": {"\\n    0x10\\n    0x20\\n": 5, "\\n    0x30\\n": 1}}}\n',
    '{"type": "map", "data": {"@frees": {"\\n    0x10\\n    0x20\\n": 2}}}\n',
    '{"type": "map", "data": {"@outstanding": {"\\n    0x10\\n    0x20\\n": 192, "\\n    0x30\\n": 7}}}\n',
]
NEW = [line.replace("\\n", "\\\\n") for line in OLD]


@pytest.mark.parametrize("lines", [OLD, NEW], ids=["line ends", "escaped line ends"])
def test_maps_become_counts_by_stack(lines: list[str]) -> None:
    books = memleak.read_books(lines)

    assert books.stacks == {(0x10, 0x20): memleak.Counts(192, 5, 2), (0x30,): memleak.Counts(7, 1, 0)}
    assert books.lost == {}


def test_a_stack_that_was_not_kept_is_counted_all_the_same() -> None:
    books = memleak.read_books(['{"type": "map", "data": {"@outstanding": {"": 64}}}'])

    assert books.stacks == {(): memleak.Counts(64, 0, 0)}


def test_a_stack_that_several_threads_took_is_one_stack() -> None:
    books = memleak.read_books(['{"type": "map", "data": {"@allocations": {"\\n 0x10\\n": 5, "\\n 0x10\\n": 3}}}'])

    assert books.stacks == {(0x10,): memleak.Counts(0, 8, 0)}


def test_blocks_that_found_no_room_are_said() -> None:
    books = memleak.read_books(['{"type": "map", "data": {"@lost": {"blocks": 3}}}'])

    assert "lost blocks: 3 were not tracked: raise --max-blocks" in memleak.table("1 x", [], books.lost)


def test_the_probe_in_free_goes_where_the_diagnosis_puts_it() -> None:
    path = Image(_self()).libc()
    elf = read_object(path, "libc")

    expected = place(read_code(path, elf, elf.exports["free"], CODE_BYTES), elf.machine).delta

    assert memleak.free_offset(Elf(path)) == expected


@pytest.mark.parametrize(
    ("code", "offset"),
    [
        (b"\x48\x85\xff\x0f\x84\xbf\x00\x00\x00", 3),  # test; je: Debian 12
        (b"\xf3\x0f\x1e\xfa\x48\x85\xff\x74\x10", 7),  # endbr64; test; je
        (b"\xf3\x0f\x1e\xfa\x55", 4),  # endbr64; push
        (b"\x55\x48\x89\xe5", 0),  # push: the entry itself
        (b"\x48\x89\xf8\x55", 0),  # mov %rdi,%rax; push: not known to be harmless
    ],
)
def test_only_known_instructions_are_passed_over(code: bytes, offset: int) -> None:
    class Libc:
        is_x86_64 = True

        def code(self, name: str, limit: int) -> bytes:
            assert name == "free"
            return code[:limit]

    assert memleak.free_offset(Libc()) == offset  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mapped", "reason"),
    [
        ("7f0000000000-7f0000001000 r-xp 00000000 08:01 7 /lib/ld-musl-x86_64.so.1", "musl"),
        ("000000400000-000000500000 r-xp 00000000 08:01 7 /app/server", "statically linked"),
        ("7f0000000000-7f0000001000 r-xp 00000000 08:01 7 /lib/libc.so.6 (deleted)", "was replaced"),
    ],
)
def test_a_process_without_a_usable_libc_is_refused(tmp_path: Path, mapped: str, reason: str) -> None:
    (tmp_path / "9").mkdir()
    (tmp_path / "9/maps").write_text(mapped + "\n")

    with pytest.raises(RefusedError, match=reason):
        Image(9, tmp_path).libc()


def test_no_process_is_said_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="pid 9 does not exist: list the processes"):
        Image(9, tmp_path)


def test_names_survive_in_the_exports_of_a_stripped_file(every_call: Path, tmp_path: Path) -> None:
    stripped = tmp_path / "stripped.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-s", "-x", "c", "-", "-o", str(stripped)],
        input=b"int kept(void){return 1;}",
        check=True,
    )

    assert Elf(every_call).code("by_malloc", 4)
    assert Elf(stripped).code("kept", 4)
    assert not Elf(stripped).code("by_malloc", 4)


def _self() -> int:
    return int(Path("/proc/self").readlink().name)


BUMP = """
static char heap[1 << 22];
static unsigned long used;
void *malloc(unsigned long bytes) { void *block = heap + used; used += (bytes + 63) & ~63UL; return block; }
void free(void *block) { (void)block; }
"""


@pytest.mark.parametrize("preloaded", [True, False])
def test_an_allocator_that_is_not_probed_is_named(preloaded: bool, tmp_path: Path) -> None:
    (tmp_path / "bump.c").write_text(BUMP)
    library = tmp_path / "libbump.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "bump.c"], check=True)
    environment = {"LD_PRELOAD": str(library)} if preloaded else {}
    # `cat` has started once it has echoed a line.
    with subprocess.Popen(["cat"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"started\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"started\n"
        found = Image(process.pid).other_allocators()
        process.stdin.close()

    assert found == ([str(library)] if preloaded else [])
