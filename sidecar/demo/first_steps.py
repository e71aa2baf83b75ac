"""The three lines that a newcomer pastes: a customer, a small budget, and calls until it is spent."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import Final

CUSTOMER: Final = "acme"
MODEL: Final = "gpt-4o-mini"
CALLS: Final = 8
LIMIT: Final = "0.0005"
"""Worth some six calls: 120 tokens of output cost 0.000072 usd, and the bound of the prompt is a little more."""

_BODY: Final = f'{{"model":"{MODEL}","max_tokens":120,"messages":[{{"role":"user","content":"Tell me about sheep."}}]}}'


def first_steps(
    proxy: str, *, spend: str = "spend", data: Path | None = None, key_variable: str = ""
) -> tuple[str, str, str]:
    """The lines, for a shell.

    Args:
        proxy: the sidecar's address, such as `http://127.0.0.1:8402`.
        spend: how the command is called in the shell where they will be pasted, quoted for it.
        data: the folder to name; None where it is the one that every command takes by itself.
        key_variable: the variable that holds the provider's key in that shell; `` for the demo provider.
    """
    where = "" if data is None else f" --data {shlex.quote(str(data.absolute()))}"
    key = f' -H "Authorization: Bearer ${key_variable}"' if key_variable else ""
    numbers = " ".join(map(str, range(1, CALLS + 1)))
    return (
        f"{spend} customers add {CUSTOMER} --wallet none{where}",
        f"{spend} budgets set {CUSTOMER} --limit {LIMIT} --per day{where}",
        f"for n in {numbers}; do curl -s {proxy}/v1/chat/completions -H 'Spend-Customer: {CUSTOMER}'"
        f"{key} -H 'Content-Type: application/json' -d '{_BODY}'; echo; done",
    )


def spend_command(path: str, *, python: str = sys.executable) -> str:
    """How this installation's `spend` is called from another shell, quoted for it.

    Plainly, where the search path finds this one; else by where it stands: `make run` installs it
    into an environment that no other terminal knows of.

    Args:
        path: the search path, `$PATH`.
        python: the interpreter of this installation.
    """
    script = Path(python).with_name("spend")
    if not script.exists():
        return f"{shlex.quote(python)} -m sidecar.cli.main"
    found = shutil.which("spend", path=path)
    if found is not None and Path(found).samefile(script):
        return "spend"
    return shlex.quote(str(script))
