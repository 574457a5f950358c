"""`python -m lab COMMAND`: the commands other than studies."""

from __future__ import annotations

import sys
from typing import Any

import tyro

from lab.cli.cohort import Phantom, Prepare
from lab.cli.models import Calibrate, Promote, Report
from lab.cli.patients import Classify, Synthesize
from lab.cli.serving import Export, Serve
from lab.cli.study_command import explain

COMMANDS: dict[str, Any] = {
    "prepare": Prepare,
    "phantom": Phantom,
    "report": Report,
    "promote": Promote,
    "calibrate": Calibrate,
    "synthesize": Synthesize,
    "classify": Classify,
    "export": Export,
    "serve": Serve,
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command; a mistake of the user is one line on stderr and exit code 2."""
    command = tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="python -m lab", args=arguments)
    continues = isinstance(command, Prepare | Phantom) or (isinstance(command, Synthesize) and command.data is not None)
    return explain(command.run, unit="case" if continues else None)


if __name__ == "__main__":
    sys.exit(main())
