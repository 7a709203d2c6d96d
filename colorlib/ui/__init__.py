"""What a person sees and touches: the notebooks' widgets; the web page is `python -m colorlib.ui.app`."""

from colorlib.ui.controls import jpeg
from colorlib.ui.demo import ColorizeDemo
from colorlib.ui.session import Session, draw_hints, wipe
from colorlib.ui.training_stepper import TrainingStepper
