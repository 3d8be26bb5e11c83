def inner(value):
    return 1 / value


def outer():
    numbers = {"a": 0}
    return inner(numbers["a"])


outer()
