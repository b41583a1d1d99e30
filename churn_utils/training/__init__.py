"""Model families, hyperparameter search with Optuna, and the analysis of a search."""
