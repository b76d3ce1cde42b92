"""Web pages for people: a report of an evaluation, curves of a training, and a comparison of runs."""
