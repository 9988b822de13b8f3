"""The whole collector in a simulated world: every schedule of faults follows from its seed."""
