"""Statistics of both arms: AUC, ROC, calibration, intervals, agreement, decision curves."""
