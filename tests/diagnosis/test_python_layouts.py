"""Where the parts of an interpreter's structures lie, as it publishes them itself."""

from __future__ import annotations

import struct

import pytest

from diagnosis.target.python_layouts import PUBLISHED, layouts_of, published_bytes


def published(minor: tuple[int, int], **values: int) -> bytes:
    """What an interpreter of a version publishes: each offset is its place, or what is said."""
    given = {"version": minor[0] << 24 | minor[1] << 16, "free_threaded": 0} | values
    words = [given.get(name.replace(".", "_"), i) for i, name in enumerate(PUBLISHED[minor])]
    return b"xdebugpy" + struct.pack(f"={len(words)}Q", *words)


# Of struct _PyInterpreterFrame: 3.14 has a pointer more before the owner.
IN_A_FRAME = {"frame_previous": 8, "frame_executable": 0, "frame_instr_ptr": 56}
OWNER = {(3, 13): 70, (3, 14): 74}


@pytest.mark.parametrize("minor", PUBLISHED)
def test_published_offsets_are_taken_by_their_places(minor: tuple[int, int]) -> None:
    names = PUBLISHED[minor]
    data = published(minor, **IN_A_FRAME, frame_owner=OWNER[minor])
    assert len(data) == published_bytes(minor)
    frames, code = layouts_of(data, minor)
    assert frames.native_id == names.index("thread.native_thread_id")
    assert (frames.previous, frames.owner) == (8, OWNER[minor])
    assert code.linetable == names.index("code.linetable")
    assert code.bytes_start == names.index("bytes.ob_sval")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"free_threaded": 1}, "without the interpreter's lock"),
        ({"version": 0x030C0000}, "no offsets"),
        ({"thread_next": 1 << 40}, "cannot be"),
        ({"frame_owner": 128}, "cannot be"),  # beyond what the program reads of a frame
        ({"frame_owner": 63}, "cannot be"),  # within what lies before it
    ],
)
def test_offsets_that_cannot_be_used_are_refused(values: dict[str, int], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        layouts_of(published((3, 13), **IN_A_FRAME | {"frame_owner": 70} | values), (3, 13))
