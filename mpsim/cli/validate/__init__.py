"""``mpsim validate``: other implementations against the definition.

Exit codes: 0 equal, 1 different, 2 could not tell.
"""

import typer

from mpsim.cli.validate import blocks, cast, dot, op, step

app = typer.Typer(
    help="Say whether another implementation is right, and if not, where and why.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
for function in (cast.cast, op.op, dot.dot, blocks.blocks, step.step):
    app.command(function.__name__)(function)
