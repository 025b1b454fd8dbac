"""What `valuetrain init` writes."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from pathlib import Path

from cli.errors import CliError
from cli.home import Home

CONFIG = """\
# Settings of this installation. Each can also be given as an environment variable: VALUETRAIN_SKILL_PROCESSES=1
# skill_processes: 2     # how many skills run at once
# nats_port: 0           # port of the embedded NATS server on loopback; 0 takes a free one
# nats_server: /path/to/nats-server
"""

POLICY = """\
# Who may decide, where data may come from, how much runs at once. docs/policy.md explains every line.
approvers:
  - name: {user}          # what is given with --as; default is the login name
    # phases: [risk-review]
    # up_to_risk: medium
    # os_users: [{user}]  # logins that may speak as this person; without it, all that can open this directory
# operators: [{user}]     # may also retry, abort and roll back
separation_of_duties: true  # who requested a ticket may not approve it
data_roots: []              # directories besides the backlog that tickets may read data from
wip: 2                      # sessions worked on at once
"""

TICKET = """\
---
id: 1
title: Flag malignant tumours from cell measurements
labels: [Task, auto, now]   # Task and auto: Auto-Pilot may take it; now, next or future: how soon
data: sklearn:breast_cancer # or a CSV or Parquet file beside this ticket, such as data/cells.csv
target: malignant           # the column to predict
metric: roc_auc             # what to optimise
acceptance:                 # when the model is good enough; all must hold
  - metrics.roc_auc_lower >= 0.95
risk: low                   # medium and high ask a person at the risk review
# requester: alice          # who asked for it; may not approve it
created: {now}
---
A first ticket to see the train run. Replace it with your own: name your file in `data`, the column to predict in
`target`, and say in `acceptance` when the model is good enough.
"""


def scaffold(directory: Path) -> tuple[list[Path], list[Path]]:
    """Write what is missing below `directory`; the paths made and those left as they were.

    Raises CliError when the directory cannot be written.
    """
    home = Home(directory / ".valuetrain")
    home.prepare()
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "you"
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    files = {
        home.config: CONFIG,
        home.policy: POLICY.format(user=user),
        directory / "backlog" / "1-first-ticket.md": TICKET.format(now=now),
    }
    made, kept = [], []
    for path, text in files.items():
        if path.exists():
            kept.append(path)
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        except OSError as problem:
            raise CliError(f"{path} cannot be written: {problem.strerror}") from problem
        made.append(path)
    return made, kept
