"""The learner's prompt: reads a line, does what it says, keeps how far one has come. Also without a terminal."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING, Generic

from rich.text import Text

from diagnosis.base.errors import LabError
from diagnosis.base.own_command import bin_folder
from diagnosis.learn.state import write_state
from diagnosis.learn.task import B
from diagnosis.learn.terminal import read_line, run_command
from diagnosis.output.comparison import print_comparison

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from diagnosis.learn.messages import Messages
    from diagnosis.learn.task import Outcome, Task

__all__ = ["Session"]

RUNS = "!"
PROMPT = "learn> "


class Session(Generic[B]):
    """One learner at one prompt.

    Args:
        bench: the service and the files.
        tasks: gives them in their order; there can be more of them later.
        messages: the texts.
        console: where they are printed.
    """

    def __init__(self, bench: B, tasks: Callable[[], Sequence[Task[B]]], messages: Messages, console: Console) -> None:
        self._tasks = tasks
        self.bench, self.messages, self.console = bench, messages, console
        self._state = bench.state
        self._commands: dict[str, Callable[[list[str]], object]] = {
            "check": self.check,
            "answer": self.check,
            "hint": lambda _: self.hint(),
            "explain": lambda _: self.explain(),
            "next": lambda _: self.next(skip=False),
            "skip": lambda _: self.next(skip=True),
            "task": lambda _: self.show_task(),
            "tasks": lambda _: self.show_tasks(),
            "reveal": lambda _: self.reveal(),
            "fix": lambda _: self.fix(),
            "unfix": lambda _: self.unfix(),
            "rebuild": lambda _: self.rebuild(),
            "where": lambda _: self.show_addresses(),
            "help": lambda _: self.say("prompt.help"),
        }

    @property
    def tasks(self) -> Sequence[Task[B]]:
        """All tasks that are known by now."""
        return self._tasks()

    @property
    def _fix_task(self) -> Task[B] | None:
        return next((task for task in self.tasks if task.name.endswith("fix")), None)

    @property
    def task(self) -> Task[B] | None:
        """The task that is to be done; None where all are."""
        return self.tasks[self._state.current] if self._state.current < len(self.tasks) else None

    # --- what is printed ---

    def say(self, key: str, style: str = "", **values: object) -> None:
        """A message."""
        self.console.print(Text(self.messages(key, **{**self.bench.values(), **values}), style=style))

    def command(self, line: str) -> None:
        """A command to paste: never broken into lines."""
        self.console.print(Text(f"    {line}", style="cyan"), soft_wrap=True)

    def welcome(self) -> None:
        """The first page."""
        self.say(f"{self.bench.page_of_texts}.welcome", "bold")
        self.show_addresses()
        self._say_what_runs()
        self.say("prompt.commands")
        if folder := bin_folder():
            self.say("prompt.path")
            self.command(f'export PATH="$PATH":{quote(str(folder))}')
        self.show_tasks()
        self.show_task()

    def _say_what_runs(self) -> None:
        """Say once that the learner's build does not start any more."""
        if self.bench.not_started:
            self.say("prompt.not_started", "yellow", error=self.bench.not_started)
            self.bench.not_started = None

    def show_addresses(self) -> None:
        """Where the service listens, and where the learner's files are."""
        self.say(f"{self.bench.page_of_texts}.addresses")

    def show_tasks(self) -> None:
        """The list of all tasks."""
        for number, task in enumerate(self.tasks):
            mark = "x" if task.name in self._state.passed else ">" if number == self._state.current else " "
            self.console.print(Text(f" [{mark}] {number + 1}. {self.messages(f'{task.name}.title')}"))

    def show_task(self) -> None:
        """The task that is to be done."""
        if self.task is None:
            self._finish()
            return
        if self.task is self._fix_task:
            _ = self.bench.source  # from now on there is a copy to edit
        self.console.print()
        number = self._state.current + 1
        self.console.print(Text(f"{number}/{len(self.tasks)} {self.messages(f'{self.task.name}.title')}", style="bold"))
        self.say(f"{self.task.name}.text")
        if self.task is self._fix_task and self._state.fixed_from is None and not self.bench.before.exists():
            self.say("prompt.trace_first", "yellow")
            self.command(next(task for task in self.tasks if task.name.endswith("trace")).command(self.bench))

    def _finish(self) -> None:
        left = [str(number) for number, task in enumerate(self.tasks, 1) if task.name not in self._state.passed]
        if left:
            self.say("prompt.left", "yellow", numbers=", ".join(left))
        self.say("prompt.finished", "" if left else "bold green")
        self.command(f"{self.bench.cli} learn --scenario random")

    # --- what is done ---

    def run(self, read: Callable[[str], str | None] = read_line) -> None:
        """Read lines until `quit`, the end of the input, or Ctrl-C, which ends the program."""
        self.welcome()
        try:
            while (line := read(PROMPT)) is not None:
                if line.strip().lower() in {"quit", "exit"}:
                    break
                self.do(line.strip())
        except KeyboardInterrupt:
            self.console.print()
            self._part()
            raise
        self._part()

    def _part(self) -> None:
        self.say("prompt.bye_elsewhere" if self._state.elsewhere else "prompt.bye")
        self.command(self.bench.going_on)

    def do(self, line: str) -> None:
        """Do what one line says; what it cannot do is said, and the learner goes on."""
        if not line:
            return
        try:
            self._do(line)
        except LabError as error:
            self.console.print(Text(str(error), style="red"))

    def _do(self, line: str) -> None:
        if self.bench.ensure():
            self.say("prompt.restarted", "yellow")
        self._say_what_runs()
        if line.startswith(RUNS):
            self._run_command(line[1:].strip())
            return
        word, *rest = line.split()
        action = self._commands.get(word.lower())
        if action is None:
            self.say("prompt.unknown", word=word)
            return
        action(rest)
        write_state(self.bench.folder, self._state)

    def check(self, words: list[str]) -> bool:
        """Check the task that is to be done: True where it is."""
        task = self.task
        if task is None:
            self.show_task()
            return False
        try:
            outcome = task.check(self.bench, words)
        except LabError as error:
            self.console.print(Text(str(error), style="red"))
            return False
        self._show(task, outcome)
        if outcome.passed and task.name not in self._state.passed:
            self._state.passed.append(task.name)
        write_state(self.bench.folder, self._state)
        return outcome.passed

    def _show(self, task: Task[B], outcome: Outcome) -> None:
        if outcome.captures:
            print_comparison(self.console, *outcome.captures, 4)
        if outcome.passed:
            self.say("prompt.right", "bold green")
            self.say(f"{task.name}.right", "green", **outcome.values)
            self.say(f"{task.name}.explain")
            self.say("prompt.go_on")
        else:
            self.say("prompt.not_yet", "bold yellow")
            self.say(f"{task.name}.{outcome.key}", "yellow", **outcome.values)

    def hint(self) -> None:
        """The next hint: from a nudge to the command."""
        task = self.task
        if task is None:
            self.show_task()
            return
        given = min(self._state.hints.get(task.name, 0) + 1, task.hints)
        if given == self._state.hints.get(task.name, 0):
            self.say("prompt.last_hint", "dim")
        self._state.hints[task.name] = given
        self.console.print(Text(f"{given}/{task.hints}", style="dim"))
        self.say(f"{task.name}.hint{given}")
        if given == task.hints:
            self.command(task.command(self.bench))

    def explain(self) -> None:
        """What the task was about; only when it is done."""
        task = self.task
        if task is None:
            self.show_task()
        elif task.name in {*self._state.passed, *self._state.revealed}:
            self.say(f"{task.name}.explain")
        else:
            self.say("prompt.sealed")

    def reveal(self) -> None:
        """Unseal the answer."""
        task = self.task
        if task is None:
            self.show_task()
            return
        if task.name not in self._state.revealed:
            self._state.revealed.append(task.name)
        self.say(f"{task.name}.reveal", "magenta", **task.sealed(self.bench))

    def next(self, *, skip: bool) -> None:
        """Go on to the next task."""
        task = self.task
        if task is not None:
            if task.name not in self._state.passed and not skip:
                self.say("prompt.not_done")
                return
            self._state.current += 1
        self.show_task()

    def fix(self) -> None:
        """Apply the shipped patch to the learner's copy."""
        if not self._may_fix():
            return
        self.bench.apply_fix()
        self.say("prompt.patched", "green")

    def unfix(self) -> None:
        """Run the service without the learner's fix again: it can be traced then as it came."""
        if self._may_fix():
            self.bench.unfix()
            self.say("prompt.unfixed", "green")

    def rebuild(self) -> None:
        """Compile the learner's copy, as the check of the fix does, whichever task is to be done."""
        task = self._fix_task
        if task is not None and self._may_fix():
            outcome = task.check(self.bench, ())
            style = "green" if outcome.passed else "yellow"
            self.say(f"{task.name}.{outcome.key}", style, **outcome.values)

    def _may_fix(self) -> bool:
        """True where the learner has come to the fix: before that, the source would give the answer away."""
        if self._fix_task is not None and self._state.current >= self.tasks.index(self._fix_task):
            return True
        self.say("prompt.too_early")
        return False

    def _run_command(self, line: str) -> None:
        """Run a command of the machine, as a shell would; Ctrl-C ends it, and not the session."""
        if not line:
            self.say("prompt.unknown", word=RUNS)
            return
        run_command(line, self.console)
