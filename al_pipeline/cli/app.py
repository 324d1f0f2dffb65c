"""The command `al`: demo · scan · up · open · presets · status · annotate · export · ledger · classes · home · page ·
predict · export-model · simulate · webhook · ml-backend · doctor · migrate.

Each command's module imports what it works with inside of the command, after its arguments are checked: a wrong one is
told at once.
"""

import typer

from al_pipeline.cli.backup import backup, restore
from al_pipeline.cli.classes import classes_commands
from al_pipeline.cli.demo import demo
from al_pipeline.cli.doctor import doctor
from al_pipeline.cli.home import home_commands
from al_pipeline.cli.ledger import export, ledger_commands, migrate
from al_pipeline.cli.model import export_model, predict
from al_pipeline.cli.opening import open_rounds
from al_pipeline.cli.page import page
from al_pipeline.cli.presets import presets
from al_pipeline.cli.scan import scan
from al_pipeline.cli.session import told_plainly
from al_pipeline.cli.simulate import simulate
from al_pipeline.cli.status import status
from al_pipeline.cli.up import annotate, up
from al_pipeline.cli.web import metrics, ml_backend, webhook

app = typer.Typer(
    help="Image active learning with people in the loop.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (demo, scan, up):
    app.command()(told_plainly()(command))
app.command(name="open")(told_plainly()(open_rounds))
for command in (presets, status, annotate, export):
    app.command()(told_plainly()(command))
app.add_typer(ledger_commands, name="ledger")
app.add_typer(classes_commands, name="classes")
app.add_typer(home_commands, name="home")
for command in (backup, restore, page, predict, export_model, simulate, webhook, ml_backend, metrics, doctor, migrate):
    app.command()(told_plainly()(command))
