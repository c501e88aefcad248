"""`python -m lab [PORT]` in tests/ serves until standard input ends; its first line is the address."""

import sys

from lab.server import serve

serve(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
