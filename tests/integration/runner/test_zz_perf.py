import time, os
from pathlib import Path
def cpu(pid):
    f=Path(f"/proc/{pid}/stat").read_text().rsplit(")",1)[1].split()
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
        while not (v:=site.get(f"/v1/batches/{b['id']}"))["done"]: time.sleep(0.05)
        t2=time.monotonic()
        print(f"PERF submit {t1-t:.2f} run {t2-t1:.2f} runner cpu {cpu(p.pid)-c0:.2f} api cpu {cpu(site.api.pid)-a0:.2f} ok {v['counts']['succeeded']}")
    print("PERF", [l for l in Path(f"/proc/{p.pid}/smaps_rollup").read_text().splitlines() if "Pss:" in l])
    c0=cpu(p.pid); time.sleep(15); print("PERF idle cpu %", (cpu(p.pid)-c0)/15*100)
