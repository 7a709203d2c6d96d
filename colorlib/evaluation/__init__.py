"""A run and photos in; scores, tests, failures and pictures out."""

from colorlib.evaluation.evaluate import constant_color, evaluate_model
from colorlib.evaluation.failures import Failures
from colorlib.evaluation.score import mean_color, score_run, unseen
from colorlib.evaluation.statistics import compare_methods, count_wins, format_summary, summarize, verdict
