"""scoring data, windows, drift, alarms."""
