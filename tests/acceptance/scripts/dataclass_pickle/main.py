import pickle
from dataclasses import dataclass


@dataclass
class Point:
    x: int
    y: int


with open("point.pickle", "wb") as file:
    pickle.dump(Point(1, 2), file)
with open("point.pickle", "rb") as file:
    print(pickle.load(file))
