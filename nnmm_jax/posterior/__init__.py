"""Results of a fit with named dimensions: the posterior, its diagnostics, its provenance."""
