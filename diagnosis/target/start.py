"""Where a thread's frames end: in the code that started it.

Code that was built without frame pointers leaves anything in their register. The C library's start of a program is such
code in some builds (Debian's glibc 2.43): after it the frame pointers of a whole stack are invalid. A stack that has
come so far is complete.
"""

from __future__ import annotations

START_FUNCTIONS = frozenset({"main", "_start", "__libc_start_call_main", "__libc_start_main", "start_thread", "clone3"})

# What has to be read behind a return address to see what is called next.
CODE_BYTES = 16
