import signal

for name in ("SIGTERM", "SIGHUP", "SIGCHLD", "SIGUSR1", "SIGINT", "SIGPIPE"):
    print(name, signal.getsignal(getattr(signal, name)))
print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])))
