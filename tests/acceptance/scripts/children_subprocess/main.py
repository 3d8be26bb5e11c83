import subprocess
import sys

done = subprocess.run([sys.executable, "-c", "import sys; print('child', sys.argv[1:])", "a b"], check=True)
print("parent", done.returncode)
shell = subprocess.run("echo from the shell; exit 5", shell=True, check=False)
print(shell.returncode)
