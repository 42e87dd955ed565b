"""Rust's older mangling: the names as Rust has them. The symbols are of a program that rustc compiled."""

from __future__ import annotations

import pytest

from diagnosis.target.parser.worker import demangle


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("_ZN5rleak13cache_session17h16d53ab8c0a06b93E", "rleak::cache_session"),
        (
            "_ZN3std2rt10lang_start28_$u7b$$u7b$closure$u7d$$u7d$17h3c5066157ce5a5d4E",
            "std::rt::lang_start::{{closure}}",
        ),
        (
            "_ZN4core3ops8function6FnOnce40call_once$u7b$$u7b$vtable.shim$u7d$$u7d$17h0240881338cb10e6E",
            "core::ops::function::FnOnce::call_once{{vtable.shim}}",
        ),
        ("_ZN5alloc5boxed12Box$LT$T$GT$3new17h42ae8a48dfc18e4aE", "alloc::boxed::Box<T>::new"),
        (
            "_ZN67_$LT$alloc..vec..Vec$LT$T$C$A$GT$$u20$as$u20$core..clone..Clone$GT$5clone17h0123456789abcdefE",
            "<alloc::vec::Vec<T,A> as core::clone::Clone>::clone",
        ),
        ("_ZN5rleak13cache_session17h16d53ab8c0a06b93E.llvm.4711", "rleak::cache_session (.llvm.4711)"),
    ],
)
def test_a_symbol_of_rust_is_named_as_in_rust(symbol: str, name: str) -> None:
    assert demangle(symbol) == name


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("_ZN3App4loadEi", "App::load(int)"),
        # A C++ class may be called as a hash: it is one only where nothing but Rust's end comes after it.
        ("_ZN3App17h16d53ab8c0a06b934loadEv", "App::h16d53ab8c0a06b93::load()"),
        ("_RNvCs1234_5rleak4main", "rleak::main"),
    ],
)
def test_other_names_are_not_touched(symbol: str, name: str) -> None:
    assert demangle(symbol) == name


def test_an_escape_that_is_no_printable_sign_stays() -> None:
    """It would reach a terminal."""
    assert demangle("_ZN4evil7$u1b$ab17h0123456789abcdefE") == "evil::$u1b$ab"
