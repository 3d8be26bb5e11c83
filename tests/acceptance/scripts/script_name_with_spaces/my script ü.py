import sys

print(sys.argv[0], __file__.endswith("my script ü.py"))
