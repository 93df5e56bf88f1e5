"""The comparisons of the NIDDL paper, made again: one module an experiment, one command for all of them.

``python -m benchmarks.experiments NAME`` runs one small, in seconds, to show that it works; with ``--full`` it runs as
its tables in docs/results were made. A module has ``SMALL`` and ``FULL``, the two sizes; ``run(size, setup)``, the tidy
table with one row for each method, condition and unit; ``figure(table)``, ``summary(table)`` and ``comparison(table)``.
"""

EXPERIMENTS = ("photons", "data_efficiency", "modes", "losses", "generalisation", "traces", "neurites")
