"""the state machine: step, role, gate, review, request, trigger; knows no pipeline."""
