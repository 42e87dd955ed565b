from __future__ import annotations

from dataclasses import replace

import pytest

from diagnosis.report.site import CallSite, call_site
from diagnosis.report.wrappers import takes_for_its_caller
from diagnosis.target.modules import is_packaged
from diagnosis.target.symbols import Frame


def frame(function: str, module: str = "server") -> Frame:
    return Frame(function, module, "", 0, 64)


@pytest.mark.parametrize(
    "name",
    [
        "malloc", "calloc", "realloc", "reallocarray", "aligned_alloc", "posix_memalign", "mmap64",
        "xmalloc", "xcalloc", "xrealloc", "xstrdup", "xstrndup", "xasprintf", "zmalloc", "zcalloc", "ztrymalloc",
        "zmalloc_usable", "ztrymalloc_usable_internal",
        "safe_malloc", "safemalloc", "checked_malloc", "my_malloc", "emalloc", "ymalloc",
        "g_malloc", "g_malloc0", "g_malloc_n", "g_realloc", "g_strdup_printf", "g_slice_alloc0", "apr_palloc",
        "CRYPTO_malloc", "CRYPTO_zalloc", "OPENSSL_malloc", "av_malloc", "av_mallocz", "av_realloc", "je_malloc",
        "PyMem_Malloc", "PyMem_RawMalloc", "_PyMem_RawCalloc", "PyObject_Malloc", "_PyObject_Malloc",
        "sqlite3Malloc", "sqlite3MallocZero", "sqlite3_malloc64", "git__malloc", "git__strdup", "talloc_named",
        "operator new(unsigned long)", "operator new[](unsigned long)", "operator delete(void*)",
        "std::vector<int, std::allocator<int> >::push_back(int const&)",
        "void std::vector<Order*, std::allocator<Order*> >::_M_realloc_append<Order*>(Order*&&)",
        "__gnu_cxx::new_allocator<Order>::allocate(unsigned long, void const*)",
        "std::__cxx11::basic_string<char>::_M_create(unsigned long&, unsigned long)",
        "alloc::raw_vec::RawVec<T,A>::grow_one", "alloc::alloc::exchange_malloc", "__rust_alloc", "__rdl_alloc",
        "__rustc::__rust_alloc", "<tikv_jemallocator::Jemalloc as core::alloc::global::GlobalAlloc>::alloc",
        "<mimalloc::MiMalloc as core::alloc::global::GlobalAlloc>::realloc",
        "<alloc::vec::Vec<T> as core::clone::Clone>::clone", "hashbrown::raw::RawTable<T,A>::reserve_rehash",
        "core::iter::traits::iterator::Iterator::collect", "xmalloc.cold", "zmalloc.part.0",
        "<T as alloc::slice::<impl [T]>::to_vec_in::ConvertVec>::to_vec", "<u64 as core::fmt::Display>::fmt",
        "<(u64,alloc::string::String) as core::clone::Clone>::clone", "<str as alloc::string::ToString>::to_string",
        "hashbrown::raw::RawTable<T,A>::reserve_rehash (.llvm.1625457062179553913)",
        "alloc::raw_vec::RawVecInner<A>::finish_grow (.llvm.1360787849417029966)",
        "ckalloc", "palloc", "kalloc", "ngx_alloc", "x_alloc", "mem_alloc", "my_mem_alloc", "HeapAlloc", "pool_alloc",
        "_emalloc", "pemalloc", "_safe_femalloc", "safe_emalloc",
        "MemoryContextAllocZeroAligned", "AllocSetAlloc", "palloc0", "init_alloc_root", "GC_generic_malloc_many",
        "caml_alloc_for_heap", "xcalloc_or_exit", "malloc_or_abort", "mem_alloc_or_exit",
        "runtime.mallocgc", "runtime.asmcgocall.abi0", "runtime.callCgoMmap.abi0", "x_cgo_mmap",
        "_cgo_7a4c92e59e3e_Cfunc__Cmalloc", "main._Cfunc_CString.abi0", "github.com/shop/db._cgo_cmalloc",
        "_cgoexp_ffd2fd0bbfd0_comesBack",
        "Order::operator new(unsigned long)", "Order::operator new[](unsigned long)",
        "Tracking<int>::allocate(unsigned long) (.isra.0)", "QArrayData::allocate(unsigned long)", "ngx_palloc",
        "event_mm_malloc_", "zend_string_alloc", "pstrdup", "g_strconcat", "boost::make_shared<Order>()",
        "core::ops::function::FnOnce::call_once{{vtable.shim}}", "Alloc::realloc(void*, unsigned long)",
        "_ZSt11make_sharedI4NodeJEESt10shared_ptrINSt9enable_ifIXntsrSt8is_arrayIT_E5valueES4_E4typeEEDpOT0_",
    ],
)  # fmt: skip
def test_who_takes_for_his_caller_is_passed_over(name: str) -> None:
    assert takes_for_its_caller(frame(name))


@pytest.mark.parametrize(
    "name",
    [
        "main", "handle_put", "make_value", "cache_put", "catalog_cache_insert", "load_report", "", "insert", "mk",
        "make_order()", "handle_request(std::vector<Order*, std::allocator<Order*> >&)", "Cache::put(std::string)",
        "server::Cache::put", "<server::Cache as core::clone::Clone>::clone", "render_template", "smalloc_stats_print",
        "allocate_session", "session_new", "pool_alloc_session", "malloc_heavy_request", "remalloc_report_to_user",
        "stdlib_report", "alloc_report", "mallocate", "dupe", "list_dup_check",
        "<(shop::Order,u64) as core::clone::Clone>::clone", "session_alloc", "msg_alloc", "row_alloc",
        "runtime", "runtime.cold", "runtime_start",
        "github.com/shop/runtime.Keep", "main.remember", "main._Custom", "main.keeps_Cfunc_",
        "core::SessionStore::add(int)", "alloc::Ledger::enter(std::vector<int, std::allocator<int> >&)",
        "Table<int>::realloc(int)", "MyVec::realloc()", "Session::allocate(int)",
        "palloc_session", "pstrdup_all", "g_new_sessions",
        "std_report(std::string)", "PyInit_catalog", "json_loads", "start_job",
    ],
)  # fmt: skip
def test_who_takes_for_himself_is_named(name: str) -> None:
    assert not takes_for_its_caller(frame(name))


@pytest.mark.parametrize(
    ("file", "passed_over"),
    [
        ("/usr/include/c++/12/bits/stl_tree.h", True),
        ("/usr/lib/llvm-14/include/c++/v1/__memory/allocator.h", True),
        ("/rustc/90b35a6239c3d8bdabc530a6a0816f7ff89a0aaf/library/alloc/src/vec/mod.rs", True),
        ("/home/shop/c++/allocate.cpp", False),
        ("/home/shop/library/allocate.rs", False),
    ],
)
def test_what_a_library_has_in_its_headers_is_passed_over_by_its_file(file: str, passed_over: bool) -> None:
    """Of a function that was put in line for a type of one file, debug information has the bare name."""
    assert takes_for_its_caller(replace(frame("emplace"), file=file)) is passed_over


@pytest.mark.parametrize(
    "module",
    ["libc.so.6", "libc-2.31.so", "libstdc++.so.6.0.30", "libjemalloc.so.2", "libtcmalloc.so.4", "ld-musl-x86_64.so.1"],
)
def test_libraries_that_nobody_changes_are_passed_over(module: str) -> None:
    assert takes_for_its_caller(frame("", module))
    assert takes_for_its_caller(frame("getdelim", module))


@pytest.mark.parametrize("module", ["libcatalog.so", "libclient.so.1", "libcurl.so.4", "libcrypto.so.3", "libcppdb.so"])
def test_other_libraries_are_named(module: str) -> None:
    assert not takes_for_its_caller(frame("", module))


def test_the_site_is_the_first_function_that_somebody_can_change() -> None:
    frames = [frame("operator new(unsigned long)", "libstdc++.so.6"), frame("std::vector<T>::push_back(T)")]
    assert call_site([*frames, frame("handle"), frame("serve")]) == CallSite("handle", "serve")


def test_a_stack_of_nothing_but_libraries_is_named_by_its_innermost_function() -> None:
    frames = [frame("__libc_alloc", "libc.so.6"), frame("start_thread", "libc.so.6")]
    assert call_site(frames) == CallSite("__libc_alloc", "start_thread")
    assert call_site([]) == CallSite("[unknown stack]", "")


def test_a_library_of_the_systems_takes_for_the_function_that_called_into_it() -> None:
    """As SQLite does, with symbols or without, for who prepares a statement and never finalizes it."""
    inside = replace(frame("", "libsqlite3.so.0.8.6"), packaged=True)
    named = replace(frame("sqlite3VdbeCreate", "libsqlite3.so.0.8.6"), packaged=True)

    for stack in ([inside, inside], [named, inside], [named, named]):
        assert call_site([*stack, frame("find_user"), frame("main")]) == CallSite("find_user", "main")


def test_a_program_that_is_made_of_the_systems_libraries_is_named_by_them() -> None:
    """Its `main` only calls into them: who reads its name learns nothing."""
    inside, named = (replace(frame(name, "libsystemd-shared.so"), packaged=True) for name in ("", "unit_new"))

    assert call_site([inside, named, frame("main")]) == CallSite("unit_new", "main")
    assert call_site([named, replace(named, function="manager_load"), frame("start_thread", "libc.so.6")]) == CallSite(
        "unit_new", "manager_load"
    )
    assert call_site([inside]).function == "libsystemd-shared.so+0x40"


def test_an_address_in_a_library_of_the_programs_own_is_named() -> None:
    assert call_site([frame("", "libcart.so"), frame("find_user")]).function == "libcart.so+0x40"


def test_a_shared_library_of_the_systems_is_told_by_its_folder() -> None:
    assert is_packaged("/usr/lib/x86_64-linux-gnu/libsqlite3.so.0.8.6")
    assert is_packaged("/lib64/libz.so.1")
    assert not is_packaged("/usr/lib/postgresql/15/bin/postgres")
    assert not is_packaged("/opt/shop/lib/libcart.so")
    assert not is_packaged("/usr/lib/python3.12/site-packages/cart.cpython-312-x86_64-linux-musl.so")
    assert not is_packaged("/home/me/libfoo.so")
