from __future__ import annotations

data = [3, 1, 2]
if (n := len(data)) > 2:
    match sorted(data):
        case [first, *rest]:
            print(first, rest, n)
