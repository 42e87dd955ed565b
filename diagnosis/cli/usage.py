"""What is wrong with the words that a command was given, in a line: the parser's own names no value and no range."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diagnosis.base.text import safe_text

if TYPE_CHECKING:
    import typer

# What the parser calls a value that it cannot read, and what that is to be.
_NO_NUMBER = {
    "int_parsing": "is no whole number",
    "int_from_float": "is no whole number",
    "float_parsing": "is no number",
}
_OUT_OF_RANGE = frozenset({"greater_than_equal", "less_than_equal", "finite_number", "int_parsing_size"})
_SHOWN = 60
# How the parser's own texts begin where what fits is the command's usage.
_UNFIT = ("Missing argument", "Got unexpected extra argument")


def usage_text(error: typer.TyperException) -> str:
    """The line for what the parser refuses: the option, the value as it was typed, and what it must be."""
    option = getattr(error, "param", None)
    # The parser checks values by pydantic, whose findings are the cause.
    findings = getattr(error.__cause__, "errors", None)
    if option is None or findings is None:
        return f"{error.format_message().rstrip('.')}{_remedy(error)}"
    found = findings()[0]
    return f"Invalid value for {option.get_error_hint()}: {_must(found, option)}"


def _remedy(error: typer.TyperException) -> str:
    """What to write instead, where the parser does not say it."""
    context = getattr(error, "ctx", None)
    text = error.format_message()
    if context is None or "Did you mean" in text:
        return ""
    if text.startswith("No such command"):
        return f": there are {', '.join(context.command.list_commands(context))}"
    if text.startswith(_UNFIT):
        given = (each for each in context.command.params if each.param_type_name == "argument")
        arguments = [each.metavar or each.human_readable_name for each in given]
        command = context.command_path.removeprefix(context.find_root().command_path).split()
        return f": write {' '.join(['memleak-lab', *command, '[OPTIONS]', *arguments])}"
    return ""


def _must(found: dict[str, Any], option: Any) -> str:  # noqa: ANN401 - the parser's own class has no public name
    value = repr(safe_text(str(found["input"]), _SHOWN))
    if found["type"] in _OUT_OF_RANGE:
        return f"{value} is out of range{_range(option)}"
    if found["type"] in _NO_NUMBER:
        return f"{value} {_NO_NUMBER[found['type']]}{_range(option)}"
    return str(found["msg"]).removeprefix("Value error, ")


def _range(option: Any) -> str:  # noqa: ANN401
    low, high = getattr(option, "min", None), getattr(option, "max", None)
    if low is None:
        return ""
    return f": it must be {low} or more" if high is None else f": it must be from {low} to {high}"
