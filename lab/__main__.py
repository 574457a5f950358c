"""`python -m lab COMMAND`: the commands other than studies."""

from __future__ import annotations

import sys
from typing import Any

import tyro

from lab.cli.cohort import Phantom, PrepareCohort
from lab.cli.models import Calibrate, Promote, Report
from lab.cli.patients import Classify, SynthesizeNewPatients
from lab.cli.serving import Export, Serve
from lab.cli.study_command import exit_code_of

COMMANDS: dict[str, Any] = {
    "prepare": PrepareCohort,
    "phantom": Phantom,
    "report": Report,
    "promote": Promote,
    "calibrate": Calibrate,
    "synthesize": SynthesizeNewPatients,
    "classify": Classify,
    "export": Export,
    "serve": Serve,
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command; a mistake of the user is one line on stderr and exit code 2."""
    command = tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="python -m lab", args=arguments)
    of_folder = isinstance(command, SynthesizeNewPatients) and command.data is not None
    continues = of_folder or isinstance(command, PrepareCohort | Phantom)
    return exit_code_of(command.run, unit="case" if continues else None)


if __name__ == "__main__":
    sys.exit(main())
