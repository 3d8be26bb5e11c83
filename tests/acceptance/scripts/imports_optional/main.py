try:
    import a_module_that_nobody_has
except ImportError:
    a_module_that_nobody_has = None

print(a_module_that_nobody_has)
