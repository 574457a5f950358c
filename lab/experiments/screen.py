"""What somebody who watches a study sees."""

from __future__ import annotations

import sys
import time

from lab.data.source import in_terminal

EVERY_S = 10.0


class Screen:
    """The progress of one trial: a line that is rewritten in a terminal, a line every few seconds elsewhere."""

    def __init__(self, number: int, total: int, label: str, epochs: int, *, alone: bool) -> None:
        """`alone` is false where several trials write to the same screen."""
        self.head = f"[{number:>{len(str(total))}}/{total}] {label:<24}"
        self.epochs, self.live = epochs, alone and in_terminal()
        self.started = self.last = time.monotonic()

    def epoch(self, figures: dict[str, float]) -> None:
        """Show where the trial is."""
        now = time.monotonic()
        if not self.live and now - self.last < EVERY_S:
            return
        self.last = now
        shown = f"{self.head} epoch {int(figures['epoch'])}/{self.epochs}  loss {figures['train/loss']:.4f}"
        shown += f"  val MAE brain {figures['val/mae_brain']:.4f}"
        self._write(shown, again=self.live)

    def end(self, text: str) -> None:
        """The trial's last line."""
        self._write(f"{self.head} {text}  ({time.monotonic() - self.started:.0f} s)", again=False)

    def _write(self, text: str, *, again: bool) -> None:
        start = "\r\033[K" if self.live else ""
        sys.stdout.write(f"{start}{text}{'' if again else chr(10)}")
        sys.stdout.flush()
