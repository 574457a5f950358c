"""From a run to a registered model: registration, gate, history and model card."""
