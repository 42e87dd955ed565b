from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from heap_trace import MAX_FRAMES

from diagnosis.target.parser.worker import demangle
from diagnosis.target.process import Process
from diagnosis.target.symbols import DEBUG_FILES, Frame, SymbolizedStack, Symbolizer
from tests.support.programs import answer, compile_c, running

if TYPE_CHECKING:
    from collections.abc import Iterator

# Prints the return addresses above itself, innermost first, and waits for a line.
WALK = """
#include <stdio.h>
void walk(int frames)
{
	void **frame = __builtin_frame_address(0);
	for (; frames; frames--, frame = frame[0])
		printf("%p\\n", frame[1]);
	fflush(stdout);
	for (int c = 0; c != '\\n' && c != EOF; c = getchar())
		;
}
"""
HEADER = "#define KEEP __attribute__((noinline))\nvoid walk(int frames);\n"
CHAIN = """
static KEEP void inner(void) { walk(3); } // in inner
static KEEP void middle(void) { inner(); } // in middle
int main(void) { middle(); return 0; } // in main
"""


def line_of(source: str, words: str) -> int:
    """Where in the compiled text these words are."""
    return next(number for number, line in enumerate(source.splitlines(), 1) if words in line)


@contextlib.contextmanager
def walked(program: Path, frames: int = 3) -> Iterator[tuple[Process, list[int]]]:
    """A running program that has printed this many return addresses."""
    with running(program) as process:
        yield Process(process.pid), [int(answer(process), 16) for _ in range(frames)]


def symbolize(program: Path, frames: int = 3, debug_files: Path = DEBUG_FILES) -> SymbolizedStack:
    with walked(program, frames) as (process, addresses), Symbolizer(process, debug_files) as symbolizer:
        return symbolizer.symbolize(addresses)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="module")
def chain(folder: Path) -> Path:
    """inner < middle < main, with debug information and a build id."""
    return compile_c(WALK + HEADER + CHAIN, folder / "chain", "-g", "-Wl,--build-id=0x0badcafe00")


def test_frames_have_function_module_file_and_line_innermost_first(chain: Path) -> None:
    source = WALK + HEADER + CHAIN
    stack = symbolize(chain)
    assert [frame.function for frame in stack.frames] == ["inner", "middle", "main"]
    assert [frame.line for frame in stack.frames] == [
        line_of(source, f"// in {name}") for name in ("inner", "middle", "main")
    ]
    assert {frame.file for frame in stack.frames} == {f"{chain}.c"}
    assert {frame.module for frame in stack.frames} == {"chain"}
    assert (stack.broken, stack.depth) == (False, 3)


def test_without_debug_information_the_functions_are_known(folder: Path) -> None:
    stack = symbolize(compile_c(WALK + HEADER + CHAIN, folder / "nameless", "-g0"))
    assert [frame.function for frame in stack.frames] == ["inner", "middle", "main"]
    assert {(frame.file, frame.line) for frame in stack.frames} == {("", 0)}
    assert not stack.broken


NO_DEBUG_FILES = Path("/none")


def test_behind_the_start_of_the_program_a_stack_misses_nothing(folder: Path) -> None:
    """As with glibc 2.43, which starts programs with a number in the frame pointer's register."""
    program = compile_c(WALK + HEADER + CHAIN.replace("walk(3)", "walk(4)"), folder / "started")
    with walked(program, frames=4) as (process, addresses), Symbolizer(process, NO_DEBUG_FILES) as symbolizer:
        whole = symbolizer.symbolize([*addresses, 0, 0x45445F43])
        inside = symbolizer.symbolize([*addresses[:2], 0])
    assert [frame.function for frame in whole.frames] == ["inner", "middle", "main", ""]
    assert not whole.broken
    assert not whole.cut_short
    assert inside.broken


# qsort of the C library calls back: what called qsort is not known.
SORTS = """
#include <stdlib.h>
static int compare(const void *one, const void *other) { (void)one; (void)other; walk(2); return 0; }
int main(void) { int two[2] = {2, 1}; qsort(two, 2, sizeof *two, compare); return 0; }
"""


def test_a_stack_that_ends_elsewhere_in_the_c_library_is_broken(folder: Path) -> None:
    program = compile_c(WALK + HEADER + SORTS, folder / "sorts")
    with (
        walked(program, frames=2) as (process, addresses),
        Symbolizer(process, NO_DEBUG_FILES) as symbolizer,
    ):
        stack = symbolizer.symbolize([*addresses, 0])
    assert [frame.module.partition(".")[0] for frame in stack.frames] == ["sorts", "libc"]
    assert stack.broken


def test_functions_of_cpp_are_called_as_in_their_source(folder: Path) -> None:
    source = CHAIN.replace(
        "static KEEP void middle(void)", 'KEEP void middle(void) __asm__("_ZN5store6insertEi");void middle(void)'
    )
    stack = symbolize(compile_c(WALK + HEADER + source, folder / "mangled"))
    assert [frame.function for frame in stack.frames] == ["inner", "store::insert(int)", "main"]


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("_ZNSt6vectorIiSaIiEE9push_backERKi", "std::vector<int, std::allocator<int>>::push_back(int const&)"),
        ("_RNvC6_123foo3bar", "123foo::bar"),
        ("main", "main"),
        ("i", "i"),  # which would be the type int
        ("_Z", "_Z"),
        ("_ZN5store", "_ZN5store"),
        ("_Restart", "_Restart"),
        ("", ""),
    ],
)
def test_only_mangled_names_are_changed(symbol: str, name: str) -> None:
    assert demangle(symbol) == name


def test_in_a_stripped_program_module_and_offset_stand_for_the_function(folder: Path) -> None:
    stack = symbolize(compile_c(WALK + HEADER + CHAIN, folder / "stripped", "-s"))
    assert [frame.function for frame in stack.frames] == [""] * 3
    assert [frame.name for frame in stack.frames] == [f"stripped+{frame.offset:#x}" for frame in stack.frames]
    assert not stack.broken


def test_the_offset_of_a_frame_is_that_of_its_return_address_in_the_file(chain: Path) -> None:
    """What addr2line and debuggers of other machines take: here asked of the system's own tool."""
    stack = symbolize(chain)
    inside = [f"{frame.offset - 1:#x}" for frame in stack.frames]
    output = subprocess.run(["nm", "--defined-only", str(chain)], capture_output=True, text=True, check=True).stdout
    starts = {name: int(address, 16) for address, _, name in (line.split() for line in output.splitlines())}
    for offset, name in zip(inside, ("inner", "middle", "main"), strict=True):
        assert 0 <= int(offset, 16) - starts[name] < 64


def test_a_shared_object_is_a_module_of_its_own(folder: Path) -> None:
    inside = "KEEP void inside(void);\nKEEP void inside(void) { walk(2); } // in inside\n"
    library = compile_c(WALK + HEADER + inside, folder / "libinside.so", "-g", "-shared", "-fPIC")
    outside = "void inside(void);\nint main(void) { inside(); return 0; }\n"
    stack = symbolize(compile_c(outside, folder / "outside", "-g", str(library), f"-Wl,-rpath,{folder}"), 2)
    assert [(frame.function, frame.module) for frame in stack.frames] == [
        ("inside", "libinside.so"),
        ("main", "outside"),
    ]
    assert stack.frames[0].line == line_of(WALK + HEADER + inside, "// in inside")


def test_a_stripped_shared_object_keeps_its_exported_names_and_lends_them_to_nobody(folder: Path) -> None:
    """GIVEN a function that is not exported, between two that are THEN it does not get the name of the one before."""
    inside = """
        KEEP void first(void);
        KEEP void last(void);
        KEEP void first(void) { walk(1); }
        static KEEP void hidden(void) { walk(2); __asm__ volatile("" ::: "memory"); }
        KEEP void last(void) { hidden(); }
    """
    library = compile_c(WALK + HEADER + inside, folder / "libstripped.so", "-s", "-shared", "-fPIC")
    caller = "void last(void);\nint main(void) { last(); return 0; }\n"
    stack = symbolize(compile_c(caller, folder / "caller", str(library), f"-Wl,-rpath,{folder}"), 2)
    assert stack.frames[0].name == f"libstripped.so+{stack.frames[0].offset:#x}"
    assert stack.frames[1].name == "last"


def test_an_inlined_function_is_a_frame_like_the_one_that_it_is_inlined_in(folder: Path) -> None:
    source = (
        WALK
        + HEADER
        + """
        static inline __attribute__((always_inline)) void inlined(void) { walk(2); } // in inlined
        static KEEP void around(void) { inlined(); } // in around
        int main(void) { around(); return 0; }
        """
    )
    stack = symbolize(compile_c(source, folder / "inlining", "-g"), 2)
    assert [frame.function for frame in stack.frames] == ["inlined", "around", "main"]
    assert [frame.line for frame in stack.frames[:2]] == [
        line_of(source, "// in inlined"),
        line_of(source, "// in around"),
    ]
    assert stack.frames[0].offset == stack.frames[1].offset, "they share a return address"
    assert stack.depth == 2


def test_debug_information_that_was_split_off_is_found_by_its_build_id(folder: Path, chain: Path) -> None:
    debug_files = folder / "debug"
    separate = debug_files / "0b" / "adcafe00.debug"
    separate.parent.mkdir(parents=True)
    program = folder / "shipped"
    subprocess.run(["objcopy", "--only-keep-debug", str(chain), str(separate)], check=True)
    subprocess.run(["objcopy", "--strip-all", str(chain), str(program)], check=True)
    assert [frame.function for frame in symbolize(program).frames] == [""] * 3
    stack = symbolize(program, debug_files=debug_files)
    assert [frame.function for frame in stack.frames] == ["inner", "middle", "main"]
    assert all(frame.line for frame in stack.frames)


def test_debug_information_that_cannot_be_read_does_no_harm(folder: Path, chain: Path) -> None:
    debug_files = folder / "broken"
    separate = debug_files / "0b" / "adcafe00.debug"
    separate.parent.mkdir(parents=True)
    separate.write_bytes(b"\x7fELF and no more")
    assert [frame.function for frame in symbolize(chain, debug_files=debug_files).frames] == ["inner", "middle", "main"]


@pytest.mark.parametrize("astray", [0, 1, 0xDEAD_BEEF_0000, 2**64 - 1])
def test_a_stack_is_cut_where_no_code_is_mapped(chain: Path, astray: int) -> None:
    with walked(chain) as (process, addresses), Symbolizer(process) as symbolizer:
        stack = symbolizer.symbolize([addresses[0], astray, *addresses[1:]])
    assert [frame.function for frame in stack.frames] == ["inner"]
    assert stack.broken
    assert stack.depth == 4


def test_a_stack_without_an_address_is_broken(chain: Path) -> None:
    with walked(chain) as (process, _), Symbolizer(process) as symbolizer:
        assert symbolizer.symbolize([]) == SymbolizedStack((), broken=True, depth=0)


def test_what_was_mapped_since_is_found(folder: Path) -> None:
    """GIVEN a symbolizer that has read the mappings WHEN a library is loaded THEN its functions are found."""
    late = "KEEP void late(void);\nKEEP void late(void) { walk(1); }\n"
    compile_c(WALK + HEADER + late, folder / "liblate.so", "-shared", "-fPIC")
    loads = f"""
        #include <dlfcn.h>
        int main(void)
        {{
            walk(1);
            void (*late)(void) = (void (*)(void))dlsym(dlopen("{folder}/liblate.so", RTLD_NOW), "late");
            late();
            return 0;
        }}
    """
    loader = compile_c(WALK + HEADER + loads, folder / "loader")
    with running(loader) as program, Symbolizer(Process(program.pid)) as symbolizer:
        assert symbolizer.symbolize([int(answer(program), 16)]).frames[0].function == "main"
        assert symbolizer.symbolize([int(answer(program, "go on"), 16)]).frames[0].function == "late"


@pytest.mark.root
def test_a_program_that_was_deleted_is_still_symbolized(folder: Path) -> None:
    program = compile_c(WALK + HEADER + CHAIN, folder / "upgraded", "-g")
    with walked(program) as (process, addresses):
        program.unlink()
        with Symbolizer(process) as symbolizer:
            stack = symbolizer.symbolize(addresses)
    assert [frame.function for frame in stack.frames] == ["inner", "middle", "main"]
    assert stack.frames[0].module == "upgraded"


def test_a_program_that_has_ended_is_symbolized_by_what_was_read_before(chain: Path) -> None:
    with walked(chain) as (process, addresses):
        symbolizer = Symbolizer(process)
        symbolizer.refresh()
    assert not process.alive()
    with symbolizer:
        assert [frame.function for frame in symbolizer.symbolize(addresses).frames] == ["inner", "middle", "main"]


def test_generated_code_has_no_name_but_is_code(folder: Path) -> None:
    """What a JIT compiler writes: anonymous memory that is executable."""
    source = """
        #include <stdio.h>
        #include <sys/mman.h>
        int main(void)
        {
            void *code = mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            printf("%p\\n", code);
            fflush(stdout);
            getchar();
            return 0;
        }
    """
    with running(compile_c(source, folder / "jit")) as program, Symbolizer(Process(program.pid)) as symbolizer:
        stack = symbolizer.symbolize([int(answer(program), 16) + 0x10])
    assert stack.frames == (Frame("", "[anonymous]", "", 0, 0x10),)
    assert stack.frames[0].name == "[anonymous]+0x10"
    assert not stack.broken


def test_a_frame_goes_by_its_function_or_by_where_it_is() -> None:
    assert Frame("insert", "lib.so", "", 0, 16).name == "insert"
    assert Frame("", "lib.so", "", 0, 16).name == "lib.so+0x10"
    assert Frame("", "", "", 0, 16).name == "unknown+0x10"


def in_module(function: str, module: str = "catalog") -> Frame:
    return Frame(function, module, "", 0, 0)


@pytest.mark.parametrize(
    ("frames", "short"),
    [
        ([in_module("insert"), in_module("refresh"), in_module("start_thread", "libc.so.6")], False),
        ([in_module("insert"), in_module("main")], False),
        ([in_module("insert"), in_module("", "libc.so.6")], False),
        ([in_module("insert"), in_module("", "ld-musl-x86_64.so.1")], False),
        ([in_module("insert"), in_module("refresh")], True),
        ([in_module("insert"), in_module("", "libcrypto.so.3")], True),
        ([in_module("start_thread", "libc.so.6")], True),
        ([], True),
    ],
)
def test_a_stack_that_ends_before_its_thread_s_start_is_cut_short(frames: list[Frame], short: bool) -> None:
    assert SymbolizedStack(tuple(frames), broken=False, depth=len(frames)).cut_short is short
    assert SymbolizedStack(tuple(frames), broken=True, depth=len(frames)).cut_short


def test_a_stack_that_fills_its_room_is_deep_and_not_cut_short() -> None:
    deep = SymbolizedStack((in_module("insert"),) * MAX_FRAMES, broken=False, depth=MAX_FRAMES)
    assert not deep.cut_short


def test_a_real_stack_goes_to_the_start_of_its_thread(chain: Path) -> None:
    assert not symbolize(chain).cut_short
    assert symbolize(chain, 2).cut_short


# Maps a page as code, names it in its perf map as it is told to, and prints the page's address; then waits.
JIT = """
    #include <stdio.h>
    #include <stdlib.h>
    #include <sys/mman.h>
    #include <unistd.h>
    int main(int count, char **lines)
    {
        char *code = mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), name[64];
        printf("%p\\n", (void *)code);
        fflush(stdout);
        snprintf(name, sizeof name, "/tmp/perf-%d.map", getpid());
        while (getchar() != EOF) {
            FILE *map = fopen(name, "a");
            for (int i = 1; i < count; i++)
                fprintf(map, "%lx 10 %s\\n", (unsigned long)code + 16 * (i - 1), lines[i]);
            fclose(map);
            puts("named");
            fflush(stdout);
        }
        return unlink(name);
    }
"""


@contextlib.contextmanager
def generating(folder: Path, *names: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A program with generated code of these names, 16 bytes each; the program, and where the code is."""
    with running(compile_c(JIT, folder / "jit-named"), *names) as program:
        try:
            yield program, int(answer(program), 16)
        finally:
            Path(f"/tmp/perf-{program.pid}.map").unlink(missing_ok=True)


def test_generated_code_has_the_names_of_its_perf_map(folder: Path) -> None:
    """GIVEN code that was looked up before its compiler named it WHEN it has a name THEN it is known by that."""
    with (
        generating(folder, "JS:~fill /srv/app.js:7", "JS:~keep\x1b[2J") as (program, code),
        Symbolizer(Process(program.pid)) as symbolizer,
    ):
        assert symbolizer.symbolize([code + 4]).frames[0].name == "[anonymous]+0x4"
        answer(program, "x")
        symbolizer.refresh()
        stack = symbolizer.symbolize([code + 4, code + 16, code + 20, code + 40])
    assert [frame.name for frame in stack.frames] == [
        "JS:~fill /srv/app.js:7",
        "JS:~fill /srv/app.js:7",  # a return address one past its end is a call inside
        "JS:~keep\\x1b[2J",
        "[anonymous]+0x28",
    ]


@pytest.mark.root
def test_a_perf_map_of_another_user_is_not_read(folder: Path) -> None:
    """Anybody can write to /tmp, also under the name of another's map."""
    with generating(folder, "forged") as (program, code), Symbolizer(Process(program.pid)) as symbolizer:
        answer(program, "x")
        os.chown(f"/tmp/perf-{program.pid}.map", 65_534, 65_534)
        assert symbolizer.symbolize([code + 4]).frames[0].function == ""
