"""How commands show their help: whole sentences, and an example a line."""

import click


class Verb(click.Command):
    """A command whose epilog holds examples, with three spaces between them."""

    @property
    def examples(self) -> list[str]:
        """The examples, one by one."""
        _, _, examples = (self.epilog or "").partition(":")
        return [example.strip() for example in examples.split("   ") if example.strip()]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """A line for each example, to be copied as it stands."""
        with formatter.section("Examples" if len(self.examples) > 1 else "Example"):
            for example in self.examples:
                formatter.write(f"{'':{formatter.current_indent}}{example}\n")


class Noun(click.Group):
    """A group whose help shows the whole first sentence of each command."""

    command_class = Verb

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands, wrapped where they are long."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(300)) for name, command in commands if command])
