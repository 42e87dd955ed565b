"""Exact heap accounting of one process with eBPF uprobes.

A thin layer over the loader in C: it loads the program, attaches it to functions of files for one process, and reads
back what was counted. Which files and instructions to probe, and what the addresses mean, is the caller's.
"""

from __future__ import annotations

from heap_trace._errors import TraceError, is_privilege_error
from heap_trace._handle import TraceClosedError
from heap_trace.python import PythonFrames
from heap_trace.records import (
    Counters,
    Lost,
    MappingEvent,
    MappingKind,
    Older,
    PythonCall,
    PythonEnding,
    SizeClass,
    Stack,
    Survivors,
)
from heap_trace.signatures import LAST_ARGUMENT, Kind, Probe, Signature, attach_rank
from heap_trace.trace import KERNEL_FRAMES, MAX_FRAMES, SIZE_CLASSES, UNKNOWN_STACK, HeapTrace
from heap_trace.unwind import Ending, Unwinding, UnwindMode, UnwindTables, Unwound

__all__ = [
    "KERNEL_FRAMES",
    "LAST_ARGUMENT",
    "MAX_FRAMES",
    "SIZE_CLASSES",
    "UNKNOWN_STACK",
    "Counters",
    "Ending",
    "HeapTrace",
    "Kind",
    "Lost",
    "MappingEvent",
    "MappingKind",
    "Older",
    "Probe",
    "PythonCall",
    "PythonEnding",
    "PythonFrames",
    "Signature",
    "SizeClass",
    "Stack",
    "Survivors",
    "TraceClosedError",
    "TraceError",
    "UnwindMode",
    "UnwindTables",
    "Unwinding",
    "Unwound",
    "attach_rank",
    "is_privilege_error",
]
