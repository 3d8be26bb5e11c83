# /// script
# requires-python = ">=3.10"
# dependencies = ["tabulate>=0.9"]
# ///
"""Prints a table with a library that the script itself asks for (PEP 723); nothing has to be installed first."""

from tabulate import tabulate

PLANETS = [
    ("Mercury", 0.330, 4_879, 0),
    ("Venus", 4.87, 12_104, 0),
    ("Earth", 5.97, 12_756, 1),
    ("Mars", 0.642, 6_792, 2),
    ("Jupiter", 1_898, 142_984, 97),
    ("Saturn", 568, 120_536, 274),
    ("Uranus", 86.8, 51_118, 28),
    ("Neptune", 102, 49_528, 16),
]

table = tabulate(PLANETS, headers=["planet", "mass (10²⁴ kg)", "diameter (km)", "moons"], tablefmt="github")
print(table)
with open("planets.md", "w", encoding="utf-8") as file:
    file.write(table + "\n")
