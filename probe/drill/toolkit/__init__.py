"""Chaos Toolkit: its experiments are read and written, its journals too, and its `chaos run` can run our drills.

Source: the Open API of the Chaos Toolkit, experiment and journal (chaostoolkit.org/reference/api). What is left behind is its
exit code: 0 where the action itself failed. Nothing of chaoslib is imported but in a process of its own (`activity`).
"""
