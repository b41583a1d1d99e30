"""Entry point of ``python -m churn_utils``."""

import sys

from churn_utils.cli import main

if __name__ == "__main__":
    sys.exit(main())
