import os
import sys

print("first", flush=True)
os.close(1)
sys.stderr.write("still here\n")
