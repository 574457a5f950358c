"""From a run to a registered model: registration, the gate to champion, its history and card."""
