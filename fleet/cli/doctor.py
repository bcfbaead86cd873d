"""`fleet doctor`: is this machine fit to be in a fleet, and if not, what is to be done."""

from dataclasses import asdict

import typer

from fleet.cli import render
from fleet.cli.status import JsonOption
from fleet.errors import ExitCode


def doctor(json: JsonOption = False) -> None:
    """Check installation, versions, devices, Redis, network files, disk, memory and clock.

    Each line is ok, warning or error, with what to do; an error ends with exit code 8. --json
    prints {"findings": [{"check", "level", "message", "fix"}]}.
    """
    from fleet.doctor import examine

    findings = []
    for finding in examine():
        findings.append(finding)
        if not json:
            render.line(f"{finding.level:<8} {finding.check}: {finding.message}")
            if finding.fix:
                render.line(f"{'':<8} -> {finding.fix}")
    if json:
        render.document({"findings": [asdict(finding) for finding in findings]})
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(ExitCode.UNHEALTHY)
