import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor


def work(n):
    return sum(range(n))


if __name__ == "__main__":
    with ProcessPoolExecutor(2) as processes, ThreadPoolExecutor(4) as threads:
        print(sum(processes.map(work, range(50))) == sum(threads.map(work, range(50))))
    print(os.getpid() > 0)
