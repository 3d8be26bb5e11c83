import time, os, subprocess, sys
def test_prof(site):
    popen=subprocess.Popen
    def fake(argv, **k):
        return popen([sys.executable, "/tmp/prof_main.py"] if "rgrid_runner.main" in argv else argv, **k)
    subprocess.Popen=fake
    p = site.start_runner()
    subprocess.Popen=popen
    up = "import sys; d=open(sys.argv[1]).read(); open(sys.argv[1]+'.up','w').write(d.upper())"
    for rnd in range(1):
        items = [{"args": [f"in/{n}.txt"], "files": {f"in/{n}.txt": f"text {rnd} {n}".encode()*100}} for n in range(200)]
        b = site.submit(up, items=items)
        print("DBG", [ (e["status"], e["message"]) for e in site.get(f"/v1/batches/{b['id']}/executions")["executions"]][:2])
        while not site.get(f"/v1/batches/{b['id']}")["done"]: time.sleep(0.05)
    site.stop(p)
