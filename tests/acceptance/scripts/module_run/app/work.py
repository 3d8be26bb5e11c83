def run():
    return "as a module"
