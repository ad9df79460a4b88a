"""The sampler: one Gibbs block a file, the sweep as a NumPyro kernel, and the run around it."""
