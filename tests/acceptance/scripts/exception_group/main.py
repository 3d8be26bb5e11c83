raise ExceptionGroup("two things", [ValueError("first"), KeyError("second")])
