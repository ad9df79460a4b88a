"""Gibbs blocks, one a file: ``kernel(key, state, data) -> (state, info)``.

Each is a valid transition for the density in :mod:`nnmm_jax.network.joint`; where its conditional
is a standard distribution, a function returns it, and tests compare it with the joint density.
"""
