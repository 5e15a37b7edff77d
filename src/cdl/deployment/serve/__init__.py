"""the server of one package: Open Inference Protocol, /predict, /feedback. Reaches nothing of a project."""
