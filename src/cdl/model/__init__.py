"""transformation, training, search, evaluation, submission, promotion."""
