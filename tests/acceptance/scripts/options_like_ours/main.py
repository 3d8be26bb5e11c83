import sys

if "--parallel" in sys.argv:
    print("mine:", sys.argv[1:])
