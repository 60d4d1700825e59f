"""The embedded platform: a small, honest live platform to measure against and to break on purpose.

`launch` starts it in a process of its own and is all that others import; they reach it over sockets only. One file per
service; `faults.TABLE` says what can be broken.
"""
