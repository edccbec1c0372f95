"""Pruning in the trainers of other packages, one file each; each needs the package it is named after."""
