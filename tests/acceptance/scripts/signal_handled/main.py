import os
import signal


def on_term(number, frame):
    print("caught", signal.Signals(number).name)
    raise SystemExit(9)


signal.signal(signal.SIGTERM, on_term)
os.kill(os.getpid(), signal.SIGTERM)
