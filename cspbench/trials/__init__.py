"""Trials wherever they run: a spec in, a result out. Knows neither Optuna nor MLflow."""
