"""Says hello, from wherever it runs."""

import platform
import sys

name = sys.argv[1] if len(sys.argv) > 1 else "world"
print(f"Hello, {name}! This is Python {platform.python_version()} on {platform.node()}.")
