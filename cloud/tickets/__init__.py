"""Tickets: a finding opens one, people work it to its end.

`policy` has the rules (pure), `model` the tables, `service` the queue.
"""
