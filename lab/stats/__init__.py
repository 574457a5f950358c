"""Statistics that both arms use: AUC, ROC, calibration, intervals, agreement, decision curves."""
