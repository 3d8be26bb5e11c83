class BadRow(ValueError):
    """With a unicode message."""


def parse(text):
    try:
        return int(text)
    except ValueError as error:
        raise BadRow(f"row “{text}” is no number") from error


print("before")
parse("zwölf")
