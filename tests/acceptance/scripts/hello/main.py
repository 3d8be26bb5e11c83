print("hello, grid")
