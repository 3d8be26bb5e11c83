import atexit

atexit.register(print, "atexit")
try:
    raise SystemExit(4)
finally:
    print("finally")
