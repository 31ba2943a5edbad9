"""Score a corpus into a run directory, resumably.

Three things that are all called samples elsewhere have a word each here: a *row* of the corpus is scored; a
*generation* is an answer that a model has sampled after the prompt of a row, for the estimate that settings and columns
name "samples"; a *sample* is rows drawn from the corpus.
"""
