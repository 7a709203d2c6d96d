"""Requests to stop that come from outside: they end a program in order, as Ctrl-C does."""

import signal
import threading


def stop_as_ctrl_c_does() -> None:
    """Let the signals that ask a program to end raise `KeyboardInterrupt`, as Ctrl-C does.

    `kill`, a shutdown and a batch system send SIGTERM, a terminal that is closed sends SIGHUP. By default they end a
    process on the spot, and what it is writing stays half written. A signal that is ignored, as after `nohup`, stays
    ignored; only a main thread can be asked.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
