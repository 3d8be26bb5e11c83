import os
import resource

old = os.umask(0o22)
print(oct(old))
print(resource.getrlimit(resource.RLIMIT_CORE)[0] >= -1)
with open("plain.txt", "w") as file:
    file.write("x")
print(oct(os.stat("plain.txt").st_mode & 0o777))
