"""Events: is the system ever in a set, how probable is that, and how rare things are counted."""
