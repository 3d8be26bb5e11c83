import time, os
def cpu(pid):
    f=open(f"/proc/{pid}/stat").read().rsplit(")",1)[1].split()
    return (int(f[11])+int(f[12]))/os.sysconf("SC_CLK_TCK")
def test_perf(site, runner):
    p = runner()
    up = "import sys; d=open(sys.argv[1]).read(); open(sys.argv[1]+'.up','w').write(d.upper())"
    site.run("print(1)")
    for rnd in range(3):
        items = [{"args": [f"in/{n}.txt"], "files": {f"in/{n}.txt": f"text {rnd} {n}".encode()*100}} for n in range(200)]
        c0=cpu(p.pid); a0=cpu(site.api.pid)
        t=time.monotonic()
        b = site.submit(up, items=items)
        t1=time.monotonic()
        while not site.get(f"/v1/batches/{b['id']}")["done"]: time.sleep(0.05)
        t2=time.monotonic()
        print(f"PERF submit {t1-t:.2f} run {t2-t1:.2f} runner cpu {cpu(p.pid)-c0:.2f} api cpu {cpu(site.api.pid)-a0:.2f}")
    for l in open(f"/proc/{p.pid}/smaps_rollup"):
        if l.startswith(("Rss","Pss:")): print("PERF", l.strip())
    c0=cpu(p.pid); time.sleep(12); print("PERF idle cpu %", (cpu(p.pid)-c0)/12*100)
    ex=[]
    for i in range(10):
        b=site.submit("print(1)")
        t=time.monotonic()
        v=site.ended(b["first_execution_id"]).view
        ex.append(time.monotonic()-t)
    print("PERF single", [round(e*1000) for e in ex])
