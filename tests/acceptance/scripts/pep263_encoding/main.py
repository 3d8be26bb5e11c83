# -*- coding: latin-1 -*-
print("latin source", ascii("x"))
