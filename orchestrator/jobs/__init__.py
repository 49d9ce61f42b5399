"""The work of each kind of step, over plain data: the same functions in every engine."""
