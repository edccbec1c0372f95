"""What a sweep found out: results as a DataFrame, Pareto fronts, significance, figures and a page that shows them."""
