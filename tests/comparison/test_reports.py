"""Reading what each tool prints, as it was printed on Debian 12."""

from __future__ import annotations

import json

import pytest

from comparison.guide import ig
from comparison.tools.bcc import BccMemleak
from comparison.tools.bpftrace import Bpftrace
from comparison.tools.gadget import Gadget
from comparison.tools.lab_trace import LabTrace
from comparison.tools.perf import Perf

BCC = """Attaching to pid 22592, Ctrl+C to quit.
[01:29:50] Top 10 stacks with outstanding allocations:
\t65536 bytes in 1 allocations from stack
\t\t0x00007f6549721fa5\tcatalog_cache_insert+0x25 [_catalog_cache.abi3.so]
[01:29:52] Top 10 stacks with outstanding allocations:
\t528 bytes in 1 allocations from stack
\t\t0x00007f654a1af898\t_PyObject_Malloc+0x78 [libpython3.11.so.1.0]
\t\t0x000056148a3941b0\t[unknown]
\t67108864 bytes in 1 allocations from stack
\t\t0x00007f6549eb3581\talloc_new_heap+0x81 [libc.so.6]
\t100532224 bytes in 1534 allocations from stack
\t\t0x00007f6549721fa5\tcatalog_cache_insert+0x25 [_catalog_cache.abi3.so]
\t\t0x00007f65497220ae\tcatalog_cache_refresh+0xae [_catalog_cache.abi3.so]
\t134217728 bytes in 1 allocations from stack
\t\t0x00007f6549eb3615\talloc_new_heap+0x115 [libc.so.6]
"""

PERF = """# To display the perf.data header info, please use --header/--header-only options.
#
# Samples: 1K of event 'page-faults'
# Event count (approx.): 24752
#
    99.29%  cache-refresh  libc.so.6         [.] 0x000000000017c158
            |
            ---0x7f93587a8158
               catalog_cache_insert
               catalog_cache_refresh

     0.50%  python         libpython3.11.so  [.] PyBytes_FromStringAndSize
            |
            ---PyBytes_FromStringAndSize
"""

BPFTRACE = """process: 4331 python

100663296 bytes outstanding in 1536 blocks (1536 allocations, 0 frees, leak ratio 100.0%)
    catalog_cache_insert+37 (_catalog_cache.abi3.so)
    0x891f5 (libc.so.6)

528 bytes outstanding in 1 blocks (368 allocations, 367 frees, leak ratio 0.3%)
    _PyObject_Malloc+120 (libpython3.11.so.1.0)
"""

IG = """\x1b[H\x1b[2JCOMM             PID FUNCTION                 OUTSTANDING
COMM             PID FUNCTION                 OUTSTANDING
cache-refresh  28855 _catalog_cache.so+0x2fa5       17 MB
python         28855 libpython3.so+0x1af898         66 kB
COMM             PID FUNCTION                 OUTSTANDING
"""


def test_bcc_counts_by_its_last_report() -> None:
    tool = BccMemleak()

    rows = tool.rows(tool.report(BCC, None))  # type: ignore[arg-type] # it leaves no file

    assert [(row.functions[0], row.outstanding_bytes) for row in rows] == [
        ("_PyObject_Malloc", 528),
        ("alloc_new_heap", 67_108_864),
        ("catalog_cache_insert", 100_532_224),
        ("alloc_new_heap", 134_217_728),
    ]
    assert rows[0].functions == ("_PyObject_Malloc", "[unknown]")


def test_bcc_is_shown_with_its_two_largest_stacks() -> None:
    tool = BccMemleak()

    shown = tool.excerpt(tool.report(BCC, None))  # type: ignore[arg-type]

    assert shown.startswith("[01:29:52]")
    assert "100532224 bytes" in shown
    assert "134217728 bytes" in shown
    assert "67108864" not in shown
    assert "528" not in shown


def test_perf_turns_shares_of_faults_into_bytes() -> None:
    rows = Perf().rows(PERF)

    assert rows[0].functions == ("0x7f93587a8158", "catalog_cache_insert", "catalog_cache_refresh")
    assert rows[0].outstanding_bytes == round(0.9929 * 24752 * 4096)
    assert rows[1].functions == ("PyBytes_FromStringAndSize",)


def test_perf_without_a_count_is_an_error_and_not_an_empty_report() -> None:
    with pytest.raises(ValueError, match="no count of events"):
        Perf().rows("Error: failed to open perf.data")


def test_bpftrace_names_functions_and_leaves_files_out() -> None:
    rows = Bpftrace().rows(BPFTRACE)

    assert [(row.functions, row.outstanding_bytes) for row in rows] == [
        (("catalog_cache_insert", "0x891f5 (libc.so.6)"), 100_663_296),
        (("_PyObject_Malloc",), 528),
    ]
    assert "_PyObject_Malloc" not in Bpftrace().excerpt(BPFTRACE)


def test_memleak_lab_is_read_from_its_json() -> None:
    report = json.dumps({"stacks": [{"frames": [{"function": "a"}, {"function": "b"}], "outstanding_bytes": 7}]})

    (row,) = LabTrace().rows(report)

    assert (row.functions, row.outstanding_bytes) == (("a", "b"), 7)


def test_the_gadget_is_shown_with_its_largest_row() -> None:
    report = json.dumps([{"frames": ["a"], "outstanding_raw": 1}, {"frames": ["b"], "outstanding_raw": 2}])

    assert json.loads(Gadget().excerpt(report))["frames"] == ["b"]
    assert [row.outstanding_bytes for row in Gadget().rows(report)] == [1, 2]


def test_ig_is_shown_with_the_last_reading_that_has_rows() -> None:
    assert ig.excerpt(IG).splitlines() == [
        "COMM             PID FUNCTION                 OUTSTANDING",
        "cache-refresh  28855 _catalog_cache.so+0x2fa5       17 MB",
    ]
