import os

print(os.environ["COLOUR"], os.environ["WITH_SPACE"], os.environ["UNI"], os.environ.get("MULTI"))
print("SECRET_OF_THE_LAPTOP" in os.environ)
