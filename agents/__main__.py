"""``python -m agents``: print this node's advert as one JSON object.

Vendor libraries are asked in this process of its own, so that one that crashes takes nothing down.
"""

import sys

from agents.probe import make_advert, node_name, probe_accelerators


def main() -> int:
    """Print the advert; problems go to standard error, a line each."""
    node = node_name()
    accelerators, problems = probe_accelerators(node)
    for problem in problems:
        sys.stderr.write(problem + "\n")
    sys.stdout.write(make_advert(node, accelerators).to_json() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
