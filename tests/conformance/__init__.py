"""Runs the suites that Kombu and Celery ship, against this transport and against the stock one.

``python -m tests.conformance --help`` says how; `differences.txt` lists what is meant to differ, and why.
"""
