with open("journal.log", "a") as journal:
    journal.write("second line\n")
print(open("journal.log").read(), end="")
