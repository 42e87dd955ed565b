"""The lab as a guided path: tasks with checks, and scenarios to tell a leak from what only looks like one."""
