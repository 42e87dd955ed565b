"""A report as a pprof profile, gzipped: for `go tool pprof`, Pyroscope, Parca and everything else that reads them.

The format is a message of protocol buffers. Its fields and their numbers are those of google/pprof's profile.proto;
the description below names the ones that are used, and protobuf's own runtime writes them.
"""

from __future__ import annotations

import gzip
from functools import cache
from typing import TYPE_CHECKING, Any

from google.protobuf import (  # type: ignore[import-untyped]
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from diagnosis.output.document import Capture
    from diagnosis.target.symbols import Frame

NANOSECONDS = 1_000_000_000

_PACKAGE = "perftools.profiles"
_FIELD = descriptor_pb2.FieldDescriptorProto

# Message: field: (number, type), a trailing * for a repeated one. Numbers in "int64" that are not counts are places in
# the table of strings.
_MESSAGES = {
    "Profile": {
        "sample_type": (1, "ValueType*"),
        "sample": (2, "Sample*"),
        "mapping": (3, "Mapping*"),
        "location": (4, "Location*"),
        "function": (5, "Function*"),
        "string_table": (6, "string*"),
        "time_nanos": (9, "int64"),
        "duration_nanos": (10, "int64"),
        "comment": (13, "int64*"),
        "default_sample_type": (14, "int64"),
    },
    "ValueType": {"type": (1, "int64"), "unit": (2, "int64")},
    "Sample": {"location_id": (1, "uint64*"), "value": (2, "int64*")},
    "Mapping": {
        "id": (1, "uint64"),
        "filename": (5, "int64"),
        "has_functions": (7, "bool"),
        "has_filenames": (8, "bool"),
        "has_line_numbers": (9, "bool"),
    },
    "Location": {"id": (1, "uint64"), "mapping_id": (2, "uint64"), "address": (3, "uint64"), "line": (4, "Line*")},
    "Line": {"function_id": (1, "uint64"), "line": (2, "int64")},
    "Function": {"id": (1, "uint64"), "name": (2, "int64"), "system_name": (3, "int64"), "filename": (4, "int64")},
}
_TYPES = {
    "int64": _FIELD.TYPE_INT64,
    "uint64": _FIELD.TYPE_UINT64,
    "bool": _FIELD.TYPE_BOOL,
    "string": _FIELD.TYPE_STRING,
}

# The four values that Go's heap profiles have, in their order.
VALUES = (("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_objects", "count"), ("inuse_space", "bytes"))


@cache
def profile_class() -> Any:  # noqa: ANN401 - made at run time
    """The class of the message."""
    file = descriptor_pb2.FileDescriptorProto(name="profile.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            bare = kind.rstrip("*")
            added = message.field.add(
                name=field, number=number, label=_FIELD.LABEL_REPEATED if kind != bare else _FIELD.LABEL_OPTIONAL
            )
            if bare in _TYPES:
                added.type = _TYPES[bare]
            else:
                added.type, added.type_name = _FIELD.TYPE_MESSAGE, f".{_PACKAGE}.{bare}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Profile"))


class _Profile:
    """A profile under construction: strings, mappings, functions and places get numbers as they come."""

    def __init__(self) -> None:
        self.message = profile_class()()
        self._strings: dict[str, int] = {}
        self._ids: dict[object, int] = {}
        self.string("")  # the first one is always empty

    def string(self, text: str) -> int:
        if text not in self._strings:
            self._strings[text] = len(self._strings)
            self.message.string_table.append(text)
        return self._strings[text]

    def _mapping(self, module: str) -> int:
        key = ("mapping", module)
        if key not in self._ids:
            self._ids[key] = len(self.message.mapping) + 1
            self.message.mapping.add(
                id=self._ids[key],
                filename=self.string(module),
                has_functions=True,
                has_filenames=True,
                has_line_numbers=True,
            )
        return self._ids[key]

    def _function(self, frame: Frame) -> int:
        key = ("function", frame.name, frame.file)
        if key not in self._ids:
            self._ids[key] = len(self.message.function) + 1
            name = self.string(frame.name)
            self.message.function.add(
                id=self._ids[key], name=name, system_name=name, filename=self.string(frame.file or frame.module)
            )
        return self._ids[key]

    def location(self, frame: Frame) -> int:
        key = ("location", frame)
        if key not in self._ids:
            self._ids[key] = len(self.message.location) + 1
            # Without an address, as the addresses of a process that is gone by now would say nothing.
            location = self.message.location.add(id=self._ids[key], mapping_id=self._mapping(frame.module))
            location.line.add(function_id=self._function(frame), line=frame.line)
        return self._ids[key]


def pprof(capture: Capture) -> bytes:
    """The profile of a report, with every stack that took something."""
    report = capture.report
    profile = _Profile()
    for name, unit in VALUES:
        profile.message.sample_type.add(type=profile.string(name), unit=profile.string(unit))
    for stack in report.stacks:
        profile.message.sample.add(
            location_id=[profile.location(frame) for frame in stack.frames],
            value=[
                stack.allocations,
                stack.allocated_bytes,
                max(0, stack.allocations - stack.frees),
                stack.outstanding_bytes,
            ],
        )
    profile.message.default_sample_type = profile.string("inuse_space")
    profile.message.duration_nanos = round(report.window_seconds * NANOSECONDS)
    profile.message.time_nanos = round(capture.origin.started * NANOSECONDS)
    profile.message.comment.extend(map(profile.string, _comments(capture)))
    return gzip.compress(profile.message.SerializeToString(), mtime=0)


def _comments(capture: Capture) -> Iterable[str]:
    target = capture.report.target
    return (f"pid {target.pid}: {target.command}", capture.report.verdict.summary)
