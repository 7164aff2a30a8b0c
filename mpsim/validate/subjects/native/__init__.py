"""Calls C functions through a shim that is compiled for the function's prototype.

The C compiler therefore passes arguments correctly, whatever their types: halves and integers by value, typedefs, any
order of parameters. Only the subject's process loads the library.
"""
