"""Sums up a CSV of orders.

    python report.py orders.csv --by region

Writes report/summary.md and, for each group, report/GROUP.csv with its orders.
"""

import argparse
import csv
from collections import defaultdict
from decimal import Decimal
from pathlib import Path

options = argparse.ArgumentParser(description="Sum up orders.")
options.add_argument("orders", help="CSV with the columns date, region, product, units, price")
options.add_argument("--by", default="region", choices=["region", "product", "date"], help="what to group by")
args = options.parse_args()

groups = defaultdict(list)
with open(args.orders, newline="", encoding="utf-8") as file:
    for order in csv.DictReader(file):
        groups[order[args.by]].append(order)

folder = Path("report")
folder.mkdir(exist_ok=True)
lines = [f"| {args.by} | orders | units | revenue |", "|---|--:|--:|--:|"]
for name, orders in sorted(groups.items()):
    units = sum(int(order["units"]) for order in orders)
    revenue = sum(int(order["units"]) * Decimal(order["price"]) for order in orders)
    lines.append(f"| {name} | {len(orders)} | {units} | {revenue:,.2f} |")
    with open(folder / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, fieldnames=list(orders[0]))
        table.writeheader()
        table.writerows(orders)

summary = "\n".join(lines) + "\n"
(folder / "summary.md").write_text(summary, encoding="utf-8")
print(summary, end="")
