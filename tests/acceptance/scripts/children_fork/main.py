import os
import sys

sys.stdout.flush()
child = os.fork()
if child == 0:
    print("in the child", flush=True)
    os._exit(11)
_, status = os.waitpid(child, 0)
print("child left with", os.waitstatus_to_exitcode(status))
