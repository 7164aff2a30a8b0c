"""Runs the fuzz session: ``python -m tests.fuzz --help``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.fuzz import mutants, session

ROOT = Path(__file__).parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / ".fuzz", help="corpora and failing inputs (.fuzz)")
    parser.add_argument("--minutes", type=float, default=10.0, help="shared by the targets (10)")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time (2)")
    parser.add_argument("--seed", type=int, default=0, help="of the first damaged files; later ones count from it (0)")
    parser.add_argument("--targets", default=",".join(session.TARGETS), help="separated by commas (all)")
    parser.add_argument("--first", action="store_true", help="end at the first failure, without making it smaller")
    parser.add_argument("--mutants", nargs="?", const="", help="plant each mutant, or those named, in a copy, and look")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        return session.run_one(given.one, 60 * given.minutes, given.seed, given.folder, given.first)
    targets = [name for name in given.targets.split(",") if name]
    if unknown := [name for name in targets if name not in session.TARGETS]:
        parser.error(f"unknown targets {', '.join(unknown)}; expected {', '.join(session.TARGETS)}")
    plan = session.Plan(given.folder.resolve(), given.minutes * 60, given.jobs, given.seed, targets, given.first)
    if given.mutants is not None:
        return mutants.run(plan, [name for name in given.mutants.split(",") if name])
    return session.run(plan)


if __name__ == "__main__":
    sys.exit(main())
