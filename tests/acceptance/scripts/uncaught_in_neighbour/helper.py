def explode():
    raise RuntimeError("from a neighbour")
