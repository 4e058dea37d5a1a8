"""The command line as a Markdown page: what ``--help`` says, command by command."""

from __future__ import annotations

from collections.abc import Iterator

import click

from service.cli import main

HEAD = """# Command line

Exit codes: 0 done, 2 usage or bad input, 1 anything else. Results go to standard output, all else to standard error.
"""


def page() -> str:
    helps = (f"## {context.command_path}\n\n```text\n{context.get_help()}\n```\n" for context in contexts(main, "nmt"))
    return "\n".join([HEAD, *helps])


def contexts(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[click.Context]:
    """Of a command and of those below it."""
    context = click.Context(command, parent, info_name=name, terminal_width=100, **command.context_settings)
    yield context
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            if (found := command.get_command(context, below)) is not None:
                yield from contexts(found, below, context)
