"""What a page says that does not depend on its numbers."""

INTRODUCTION = """# Does entropy-based selection hold accuracy with 84 % less data?

A small model is fine-tuned on the rows that many selection methods keep of the same pool, at equal budgets and over the
same training seeds. euds is a reimplementation in the style of *Entropy-Based Data Selection for Language Models* (Li,
Liu, Huang; IEEE Access 13, 2025), whose formulas and tables were not at hand: tested here are euds' own readings of it;
it is no replication of the paper's numbers. These are small runs: a small model, small pools, {seeds} training seeds a
method. Each task's conclusions say which differences its runs can see; of larger models and corpora they say nothing.
"""

ACROSS = """## Across tasks

Points over random (of accuracy, or of F1 where that is named), mean over the tasks, of every label-free rule that all
of them have trained with three seeds or more; each task at the share kept and schedule of its results below. The order
is that of the validation rows, over the seeds that all rules of a task have. The intervals of the means take tasks as
independent and speak of these tasks alone; the others take the tasks as a sample of others, by Student's t, and are at
least as wide as the first. Neither kind is corrected for the number of rules. A rule keeps one choice of rows a task,
whose luck is in the second kind alone. A mixture of sources repeats another task and is left out.
"""

ACROSS_DRAWS = """## Across draws

Points over random (of accuracy, or of F1 where that is named), mean over the sets of rows, of every label-free rule
that all of them have trained with three seeds or more; each at the share kept and schedule of its results below. The
order is that of the validation rows, over the seeds that all rules of a set have. Sets that are judged on rows of one
file are draws of one task and no sample of tasks: the intervals of the means take them as if one repeated the other,
and different tasks as independent. They are not corrected for the number of rules. A mixture of sources repeats another
task and is left out.
"""

REPEATED = """What leads here may owe it to these rows; [the repetition]({page}) has the same tasks on other draws.
"""

REPETITION = """# The study, repeated on other rows

What leads on one draw of rows may owe it to those rows. Here the tasks of [the study]({page}), where methods and
numbers are explained, are trained on other draws of pool, validation and test rows from the same files, at the same
sizes. Each task's notes say what was fixed before anything was trained on it, and how much of its rows the draws share.
{seeds} training seeds a method.
"""

HEADINGS = tuple(text.partition("\n")[0] for text in (INTRODUCTION, REPETITION))
"""How a page begins."""

DRAW_BY_DRAW = """## Draw by draw

The same of the draws of this page alone, best on the validation rows first; the intervals of the means take tasks as
independent, and the draws of a task, which share rows, as if one repeated the other.
"""

OVER_DRAWS = """## Over all draws

Points over random on the test rows (of accuracy, on the questions of F1) of every label-free rule that all draws have
trained: the mean over the draws of a task, the study's own among them, then over the {n} tasks. The first interval is
that of these {draws} draws: tasks are taken as independent, the draws of a task, which share rows, as if one repeated
the other, which makes it too wide rather than too narrow. The second takes the {n} tasks as a sample of others, by
Student's t, and is at least as wide. Neither is corrected for the number of rules.
"""

READING = """## How to read the numbers

* What a table singles out is chosen on validation rows, and test rows only measure. Which rules and seeds were trained
  at all did follow a look at test results where a task's notes say so. The same models were judged on both sets, so
  lucky training seeds can still favour what was chosen: it is called better than random only where it is so after the
  correction over all rules. Numbers are percent, mean ± standard deviation over training seeds; differences are points.
* A difference is paired by seed and test row, over the seeds that both methods have. Its 95 % interval comes from
  {resamples:,} bootstrap resamples of seeds and test rows together; a rule's one choice of rows is part of what is
  compared, and its luck is not in the interval. Few seeds that differ much make it too narrow: in simulations
  with accuracies that spread by 10 points over seeds it held the truth in 78 % of studies of 3 seeds and in 86 % of 5,
  with a spread of 5 points in 88 and 93 %, of 2 points in 97 and 98 %.
* So no verdict on a rule rests on its interval. A p-value is the larger of the bootstrap's and that of a paired t test
  over seeds (two-sided for the difference from random, one-sided for the loss against the full data). Three seeds must
  agree closely to say anything; an interval without zero alone is no difference shown. Where all of seven rules were
  like random and seeds spread by 10 points, the bootstrap alone called one or more different after correction in 32 %
  of simulated studies of 3 seeds and 14 % of 5, the larger p-value in 3 and 4 %.
* "Holm p" is corrected for all methods compared with random at that budget and schedule, checks of the harness left
  out; bold: below 0.05. With many methods, some intervals miss zero by chance alone.
* "No loss shown": shown to lose less than {margin:g} points against the full data, one-sided, p below 0.05 after the
  same correction, random included. "No" does not say that it loses; the runs may be too few to tell.
* "Length": mean tokens of the rows kept over those of the pool. "Total s": core-seconds (wall-clock times threads) of
  scoring, search and one training, all on the machine that the task names first; "-": trained on another.
* "(labels)": the rule reads labels. "(check)": `leaked` trains on test rows and must win; `shuffled` selects by
  permuted scores and must equal random.
"""

COST = """All are core-seconds, wall-clock times threads: scoring ran on all cores, a training on one; a search counts
as if on one. A training counts as the fastest of its first three seeds, as other work on the machine only ever slows
it, and the fastest of more would be faster by chance. Scoring was timed once, in places beside other work, so that a
ratio of both is rough. Scores are paid once per pool and serve every later selection.
What was trained later, on another machine or beside other work, has no seconds here.
"Paid for after": the least number of trainings that save more than scores and search cost; at equal steps fewer rows
save no training. BERT-base (110 M parameters) is extrapolated, not measured: training takes about 6 x parameters x
tokens operations, counted without embeddings and what works once a text, so at equal operations a second the seconds
saved grow by 85.1 M / 10.6 M against MiniLM, at the same scoring cost."""

SEQUENCE = (
    "A method's budgets are taken from the largest down, and the first that is not shown, or has too few seeds to "
    "tell, ends the search: in an order fixed beforehand those of one method need no correction for each other."
)
