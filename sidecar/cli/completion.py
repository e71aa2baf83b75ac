"""`spend completion`: a script that completes these commands in a shell."""

from __future__ import annotations

from typing import Final

import click

from sidecar.cli.choices import OneOf

HOW: Final = {
    "bash": 'eval "$(spend completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(spend completion zsh)"   # in ~/.zshrc, after compinit',
    "fish": "spend completion fish > ~/.config/fish/completions/spend.fish",
}
"""Where each shell's script goes."""

VARIABLE: Final = "_SPEND_COMPLETE"
"""By which a script asks `spend` what could stand next."""

_BASH: Final = """\
_spend_completion() {
    local IFS=$'\\n' line kind value
    COMPREPLY=()
    while IFS= read -r line; do
        kind=${line%%,*} value=${line#*,}
        case $kind in
            dir) compopt -o dirnames 2>/dev/null; return 0 ;;
            file) compopt -o default 2>/dev/null; return 0 ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD="$COMP_CWORD" _SPEND_COMPLETE=bash_complete "$1" 2>/dev/null)
    return 0
}
complete -o nosort -F _spend_completion spend
"""
"""Ours and not the library's: that one starts another shell to ask its version, and fails on bash 3."""


@click.command("completion")
@click.argument("shell", type=OneOf(list(HOW)), metavar="bash|zsh|fish")
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands and options in SHELL.

    \b
    bash: eval "$(spend completion bash)" in ~/.bashrc
    zsh:  eval "$(spend completion zsh)" in ~/.zshrc, after compinit
    fish: spend completion fish > ~/.config/fish/completions/spend.fish
    """
    click.echo(f"# {HOW[shell]}")
    if shell == "bash":
        click.echo(_BASH, nl=False)
        return
    from click.shell_completion import get_completion_class  # noqa: PLC0415 (not for --help)

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"This version of the command line library knows no {shell}; try bash.")
    click.echo(kind(ctx.find_root().command, {}, "spend", VARIABLE).source(), nl=False)
