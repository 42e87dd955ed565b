"""A host that loads and unloads plugins: the tracer keeps nothing of a file that is no longer mapped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.trace.tracing import Row, Target, count, probes_held

if TYPE_CHECKING:
    from pathlib import Path

    from tests.trace.conftest import Build
    from tests.trace.tracing import Closing

pytestmark = pytest.mark.ebpf

# More than there is room for ranges of code (64); of two programs, to detach takes a tenth of a second.
TIMES = {True: 70, False: 3}


def test_what_was_unloaded_is_detached(build: Build, closing: Closing, tmp_path: Path, allow_session: bool) -> None:
    """Each copy is another file, which may have the number of the one before."""
    plugin = build("plugin.c", "-shared", "-fPIC", name="libplugin.so")
    copy, times = tmp_path / "copy.so", TIMES[allow_session]
    with (
        Target([build("plugins.c"), plugin, copy, str(times)]) as target,
        closing.tracing(target, allow_session=allow_session) as tracer,
    ):
        before = len(tracer.allocators)
        open_now = []
        for _ in range(times):
            assert target.go() == "loaded"
            tracer.look_for_allocators()
            assert len(tracer.allocators) == before + 1
            open_now.append(probes_held())
            assert target.go() == "unloaded"
            tracer.look_for_allocators()
            assert len(tracer.allocators) == before
        assert target.go() == "done"
        counted = count(tracer)
        notes = tracer.notes
    assert counted.table["plugin_serves"] == Row(times, times, 0)
    assert counted.lost == {}
    assert max(open_now) <= open_now[0]
    (note,) = notes
    assert note.startswith(f"{times} allocators were loaded and unloaded meanwhile: up to")
