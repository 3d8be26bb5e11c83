import dbm.dumb
import sqlite3
import zipfile
from pathlib import Path

with sqlite3.connect("numbers.db") as db:
    db.execute("create table n (v integer)")
    db.executemany("insert into n values (?)", [(i,) for i in range(10)])
db.close()
with zipfile.ZipFile("pack.zip", "w") as pack:
    pack.writestr(zipfile.ZipInfo("a.txt", (2020, 1, 1, 0, 0, 0)), "in a zip")
db = sqlite3.connect("numbers.db")
print(db.execute("select sum(v) from n").fetchone())
db.close()
print(zipfile.is_zipfile("pack.zip"), Path("numbers.db").stat().st_size)
