"""Batch kernels on Arrow and NumPy arrays: pure functions without I/O and without an engine, so that any executor may run them on parts.

Every kernel exists twice with identical results: compiled by numba (optional) and in NumPy (`backend.use_numba` chooses).
"""
