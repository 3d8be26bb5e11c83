import os
import sys

os.rename(sys.argv[1], "renamed.txt")
