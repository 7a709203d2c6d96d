"""A run and photos in; scores, tests, failures and pictures out."""

from colorlib.evaluation.evaluate import constant_color, evaluate_model
from colorlib.evaluation.failures import Failures, extremes, near_gray, tone_changes
from colorlib.evaluation.score import load_lpips, mean_color, save_palettes, score_run, unseen
from colorlib.evaluation.statistics import compare_methods, count_wins, format_summary, summarize, verdict
