"""Experiment trackers: where the numbers of a run go beside its folder.

    --track wandb,mlflow          several at once; TensorBoard is written into the run folder wherever it is installed

The one idea: a tracker is three calls (`log`, `artifact`, `close`) that a thread of its own makes, so it can be slow, and may fail, and the
run does not notice.  What would keep it from working is found before the first step: a package that lacks, a login that lacks.
"""

from sojourn.trackers.thread import Tracked
from sojourn.trackers.tracker import TRACKERS, Start, Tracker, check, installed, open_all, split

__all__ = ["TRACKERS", "Start", "Tracked", "Tracker", "check", "installed", "open_all", "split"]
