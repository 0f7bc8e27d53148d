"""Whether Gibbs sampling is of its model, at length: `python experiments/gibbs/run.py`.

README.md says what came out.
"""

import argparse
from pathlib import Path

import jax

from mfjax.app.terminal import say
from mfjax.checks.joint import Case, joint_distribution
from mfjax.reporting.files import write_csv

FOLDER = Path(__file__).parent
CASES = [
    Case(noise=noise, bags=bags, kernel="native")
    for bags in (False, True)
    for noise in ("common", "user", "item", "both")
]


def main() -> None:
    """Run the joint-distribution test of every case, and write its statistics."""
    parser = argparse.ArgumentParser(
        description="Sweep draws of parameters and ratings, which must keep their distribution."
    )
    add = parser.add_argument
    add("--chains", type=int, default=20_000, help="draws from the model, each swept")
    add("--output", type=Path, default=FOLDER, help="folder of the results")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    rows = []
    for case in CASES:
        apart = joint_distribution(case, arguments.chains)
        rows.append({**case._asdict(), **apart})
        say(f"{case}: at most {max(map(abs, apart.values())):.2f}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    write_csv(arguments.output / "joint.csv", rows)


if __name__ == "__main__":
    main()
