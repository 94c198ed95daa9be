"""Rows as pages, plots and tables."""
