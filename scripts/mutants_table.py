"""Known faults of samplers like this one, and the tests that are meant to catch each.

A fault is one replacement of text in one file of the package. ``old`` must occur there exactly
once, so that a change of the package which makes an entry stale is noticed.
"""

from dataclasses import dataclass

BLOCKS = "nnmm_jax/inference/blocks"
INFERENCE = "nnmm_jax/inference"
PRIORS = "tests/inference/test_prior_table.py"
EXACT = "tests/inference/test_exact_conditionals.py"
LONG = "tests/inference/test_exact_posteriors.py"
MECHANICS = "tests/inference/test_mechanics.py"
NETWORKS = "tests/inference/test_networks.py"
DIAGNOSTICS = "tests/posterior/test_diagnostics.py"
ALIGN = "tests/data/test_align.py"
FORMATS = "tests/data/test_formats.py"
QUALITY = "tests/data/test_quality.py"
PREPARE = "tests/inference/test_prepare.py"
VARIATIONAL = "tests/inference/test_variational.py"
COMPLETE = "tests/inference/test_complete.py"
WHOLE = "tests/inference/test_fixed_point.py"
LATENT = "tests/inference/test_latent_move.py"
MEDIATED = "tests/inference/test_mediated_move.py"
RATIO = "tests/inference/test_variance_ratio.py"
LEVELS = f"{PRIORS}::test_levels_weights_and_residual_variances"
CACHES = f"{MECHANICS}::test_running_caches_equal_recomputed"


@dataclass(frozen=True)
class Mutant:
    """One planted fault.

    Attributes
    ----------
    name : str
        Short, without spaces.
    what : str
        What is wrong then.
    file : str
        Of the package, from the root of the repository.
    old, new : str
        Text that occurs once in the file, and what takes its place.
    tests : tuple of str
        Tests that are meant to fail, as pytest names them; they run in this order until one fails.
    """

    name: str
    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


VARIANCES = (
    Mutant(
        "df-of-variances",
        "degrees of freedom of every variance: one too few",
        f"{BLOCKS}/families.py",
        "dist.InverseGamma((df + count) / 2, (df",
        "dist.InverseGamma((df + count - 1) / 2, (df",
        (f"{LEVELS}[RR-BLUP-float64]",),
    ),
    Mutant(
        "df-of-residuals",
        "degrees of freedom of residual variances only: one too few",
        f"{BLOCKS}/variances.py",
        "arrays.design.matrix.shape[-1], squares.dtype)",
        "arrays.design.matrix.shape[-1] - 1, squares.dtype)",
        (f"{LEVELS}[RR-BLUP-float64]",),
    ),
    Mutant(
        "count-of-individuals",
        "residual variance of the trait counts individuals, phenotyped or not, instead of records",
        f"{BLOCKS}/variances.py",
        '    return found | _layer_conditionals("var_y", state.trait, data.trait, nodes)',
        '    found |= _layer_conditionals("var_y", state.trait, data.trait, nodes)\n'
        "    more = (data.y_precision.shape[0] - data.y.shape[0]) / 2\n"
        '    concentration = found["var_y"].concentration + more\n'
        '    return found | {"var_y": dist.InverseGamma(concentration, found["var_y"].rate)}',
        (f"{LEVELS}[RR-BLUP-float64]",),
    ),
    Mutant(
        "count-of-zero-effects",
        "the common variance counts effects that are zero",
        f"{BLOCKS}/families.py",
        "jnp.sum(squares, axis=-1), jnp.sum(nonzero, axis=-1)",
        "jnp.sum(squares, axis=-1), jnp.sum(nonzero | True, axis=-1)",
        (f"{LEVELS}[BayesC-float64]",),
    ),
    Mutant(
        "own-variance-of-zero-effects",
        "own variances of zero effects are not drawn from their prior",
        f"{BLOCKS}/families.py",
        "scale, effects.coef**2, nonzero)",
        "scale, effects.coef**2, 1.0)",
        (f"{PRIORS}::test_own_variances[BayesB-float64]",),
    ),
    Mutant(
        "lasso-count",
        "effects of a lasso do not count in the residual variance",
        f"{BLOCKS}/families.py",
        "squares, count = squares + more, count + how_many",
        "squares, count = squares + more, count",
        (f"{LEVELS}[BayesL-float64]",),
    ),
    Mutant(
        "rank-of-markers",
        "variance of jointly drawn effects counts markers instead of the rank",
        f"{BLOCKS}/variances.py",
        "joint_variance_conditional(effects, values, term.hyper)",
        "variance_conditional(term.hyper.df, term.hyper.scale, "
        "jnp.sum(effects.coef**2 / values, axis=-1), term.markers.n_markers)",
        (f"{PRIORS}::test_variance_of_effects_drawn_jointly[RR-BLUP-float64]",),
    ),
    Mutant(
        "padding-in-pi",
        "pi counts the padding of the genotypes as zero effects",
        f"{BLOCKS}/variances.py",
        "allowed = jnp.sum(allowed_effects(term), axis=0)",
        "allowed = jnp.full((1,), term.markers.n_padded)",
        (f"{LEVELS}[BayesC-float64]",),
    ),
    Mutant(
        "latent-variance-free",
        "residual variance of latent nodes is sampled instead of fixed",
        f"{BLOCKS}/variances.py",
        'jnp.where(hyper.fixed, hyper.scale, drawn[f"{name}{arrays.suffix}"])',
        'drawn[f"{name}{arrays.suffix}"]',
        (f"{MECHANICS}::test_latent_nodes_have_positive_effects",),
    ),
    Mutant(
        "inverse-variance",
        "variances are drawn as precisions",
        f"{BLOCKS}/variances.py",
        "drawn[name] = one.rate / value",
        "drawn[name] = value / one.rate",
        (f"{LONG}::test_one_gamma_call_draws_every_variance_and_pi",),
    ),
    Mutant(
        "prior-scale",
        "prior scales are set to the wanted mean, as if df / (df - 2) were 1",
        f"{INFERENCE}/hyper.py",
        "return mean * (df - 2.0) / df",
        "return mean * 1.0",
        ("tests/inference/test_hyper.py::test_prior_mean_of_the_explained_variance_is_the_share",),
    ),
)

MIXTURES = (
    Mutant(
        "pi-in-weights",
        "conditional of pi: the wrong way round",
        f"{BLOCKS}/families.py",
        "jnp.stack([n_effects - sum(found), *found], axis=-1)",
        "jnp.stack([*found, n_effects - sum(found)], axis=-1)",
        (f"{LEVELS}[BayesC-float64]",),
    ),
    Mutant(
        "pi-in-conditional",
        "conditional of an effect: pi the wrong way round",
        f"{BLOCKS}/effects.py",
        "log_odds=jnp.log(weights[1:]) - jnp.log(weights[0]) + log_bayes_factor",
        "log_odds=jnp.log(weights[0]) - jnp.log(weights[1:]) + log_bayes_factor",
        (f"{PRIORS}::test_one_marker_effect_and_fixed_effects[marker-BayesC-float64]",),
    ),
    Mutant(
        "pi-in-sweep",
        "draws of effects: pi the wrong way round",
        f"{BLOCKS}/effects.py",
        "log_prior = jnp.log(weights[:, 1:]).T - jnp.log(weights[:, 0])",
        "log_prior = jnp.log(weights[:, 0]) - jnp.log(weights[:, 1:]).T",
        (f"{MECHANICS}::test_sweep_draws_are_the_conditional_solved_for_the_right_hand_side",),
    ),
    Mutant(
        "first-component",
        "of a mixture the last component that beats zero wins, not the best",
        f"{INFERENCE}/sequential.py",
        "best = jnp.maximum(score, best)",
        "best = jnp.zeros_like(rhs)",
        ("tests/inference/test_sequential.py::test_equal_to_the_loop_of_xla",),
    ),
)

RESIDUALS = (
    Mutant(
        "stale-after-markers",
        "residual not updated after a marker term",
        f"{BLOCKS}/mixed_model.py",
        "term_values=_replaced(state.term_values, number, values),\n        residual=residual,",
        "term_values=_replaced(state.term_values, number, values),\n"
        "        residual=state.residual,",
        (f"{CACHES}[spikes-float64]",),
    ),
    Mutant(
        "stale-after-omics",
        "residual of the nodes not updated after missing omics moved",
        f"{BLOCKS}/missing_linear.py",
        "return residual.at[:, places].add(change)",
        "return residual",
        (f"{CACHES}[spikes-float64]",),
    ),
    Mutant(
        "stale-after-scale-move",
        "residual not updated after a scale move",
        f"{BLOCKS}/scale_move.py",
        "genetic + change, residual - change",
        "genetic + change, residual",
        (f"{MECHANICS}::test_scale_move_keeps_the_sum_of_genetic_value_and_residual",),
    ),
    Mutant(
        "ratio-move-without-way-back",
        "move of a variance ratio: steps of a size that depends on where they start, not corrected",
        f"{BLOCKS}/variance_ratio.py",
        "draws[1] < new_log - log + back",
        "draws[1] < new_log - log",
        (f"{RATIO}::test_moves_end_at_their_density",),
    ),
    Mutant(
        "ratio-density-without-lasso",
        "density of a variance ratio: what lasso effects say about the residual variance left out",
        f"{BLOCKS}/mixed_model.py",
        "left, count, [*others, *sharing])",
        "left, count, others)",
        (f"{RATIO}::test_density_along_the_move",),
    ),
    Mutant(
        "stale-after-latent-move",
        "values of marker terms not scaled with a latent node",
        f"{BLOCKS}/latent_move.py",
        "new.append((family_of(hyper).scaled(effects, k), k[:, None] * value))",
        "new.append((family_of(hyper).scaled(effects, k), value))",
        (f"{LATENT}::test_density_along_a_move[tanh]",),
    ),
    Mutant(
        "stale-without-node-effects",
        "residual of the trait not updated where a function without theta takes the nodes",
        f"{INFERENCE}/sweep.py",
        "residual = trait.trait_residual(state, data, activation)\n"
        "        state = state._replace(trait=state.trait._replace(residual=residual))",
        "pass",
        (f"{NETWORKS}::test_caches_of_a_function_without_theta",),
    ),
    Mutant(
        "random-term-kept",
        "random terms are drawn from a response without what they explained before",
        f"{BLOCKS}/random_terms.py",
        "+ sum(state.random_values, jnp.zeros((), dtype))",
        "+ jnp.zeros((), dtype)",
        (f"{CACHES}[random terms-float64]",),
    ),
)

FIXED_EFFECTS = (
    Mutant(
        "taken-in-trait",
        "fixed effects with a prior take all of what their design sees: node effects",
        f"{BLOCKS}/trait.py",
        "gram = active @ active.T - taken * (seen.T @ seen)",
        "gram = active @ active.T - seen.T @ seen",
        (f"{PRIORS}::test_node_effects_and_fixed_effects[RR-BLUP-float64]",),
    ),
    Mutant(
        "taken-in-theta",
        "fixed effects with a prior take all of what their design sees: theta",
        f"{BLOCKS}/theta.py",
        "misfit = jnp.sum(left**2) + (1.0 - taken) * jnp.sum(seen**2)",
        "misfit = jnp.sum(left**2)",
        (f"{NETWORKS}::test_density_of_theta_with_fixed_effects[function-rich]",),
    ),
    Mutant(
        "taken-in-markers",
        "fixed effects with a prior take all of what their design sees: marker effects",
        f"{BLOCKS}/mixed_model.py",
        "sum_squares = sum_squares + explained * (1.0 - arrays.taken(var_e)[:, None])",
        "sum_squares = sum_squares + 0.0 * explained * arrays.taken(var_e)[:, None]",
        (f"{MECHANICS}::test_blocked_sweep_equals_marker_by_marker[BayesC-0.5]",),
    ),
    Mutant(
        "taken-in-latent-move",
        "fixed effects with a prior take all of what their design sees: latent nodes",
        f"{BLOCKS}/latent_move.py",
        "taken = self.data.trait.taken(self.state.trait.variance)[0]",
        "taken = 1.0",
        (f"{LATENT}::test_density_along_a_move[rich]",),
    ),
    Mutant(
        "fixed-before-markers",
        "fixed effects, integrated out of the markers' draw, are drawn given the old markers",
        f"{BLOCKS}/mixed_model.py",
        "fixed = noise.draw_normal(key_fixed, fixed_conditional(seen, var_e, arrays))\n"
        "    return fixed, coef,",
        "fixed = noise.draw_normal(key_fixed, fixed_conditional(start[2], var_e, arrays))\n"
        "    return fixed, coef,",
        (f"{MECHANICS}::test_blocked_sweep_equals_marker_by_marker[BayesC-None]",),
    ),
    Mutant(
        "machine-code-own-cross-products",
        "machine code leaves out what a response adds to the cross-products of an effect",
        f"{INFERENCE}/native_code.py",
        "square += share * extra[j, j]",
        "square += 0.0 * extra[j, j]",
        ("tests/inference/test_sequential.py::test_equal_to_the_loop_of_xla",),
    ),
    Mutant(
        "machine-code-wrong-group",
        "machine code gives chains with cross-products of their own those of the first chain",
        f"{INFERENCE}/native_code.py",
        "                        grams[group],\n",
        "                        grams[0],\n",
        ("tests/inference/test_sequential.py::test_batched_like_any_function",),
    ),
    Mutant(
        "machine-code-forgets-later",
        "machine code tells a change only to the effects that are taken along with it",
        f"{INFERENCE}/native_code.py",
        "        _together(rhs, gram, changed, change, k, stop)\n",
        "",
        ("tests/inference/test_sequential.py::test_equal_to_the_loop_of_xla",),
    ),
    Mutant(
        "machine-code-counts-twice",
        "machine code has what pads a group of four changes count as the first change again",
        f"{INFERENCE}/native_code.py",
        "change[count : count + 3] = start, 0",
        "change[count : count + 3] = start, change[0]",
        ("tests/inference/test_sequential.py::test_equal_to_the_loop_of_xla",),
    ),
    Mutant(
        "machine-code-lost-thread",
        "machine code leaves out the last response of a further thread",
        f"{INFERENCE}/native_code.py",
        "words[number, 3] = (number + 1) * responses // parts",
        "words[number, 3] = (number + 1) * responses // parts - number",
        ("tests/inference/test_sequential.py::test_so_many_responses_that_threads_share_them",),
    ),
    Mutant(
        "sums-before-the-scale-move",
        "sums of everyone are not scaled along with the effects",
        f"{BLOCKS}/complete.py",
        "        explained = k[:, None] * explained\n",
        "",
        (f"{COMPLETE}::test_sweeps_are_those_of_everyone[BayesC-holes]",),
    ),
    Mutant(
        "sums-with-fixed-effects",
        "sums of squares of the residuals leave what the fixed effects take",
        f"{BLOCKS}/complete.py",
        "    left_seen = left_seen - fixed\n",
        "",
        (f"{COMPLETE}::test_sweeps_are_those_of_everyone[BayesB-holes]",),
    ),
    Mutant(
        "sums-of-the-incomplete-alone",
        "residual variances count the incomplete individuals only",
        f"{BLOCKS}/variances.py",
        "if state.sums is None else state.sums.left",
        "if state.sums is None else jnp.sum(state.residual**2, axis=-1)",
        (f"{COMPLETE}::test_sweeps_are_those_of_everyone[BayesC-holes]",),
    ),
    Mutant(
        "sums-of-a-fixed-part",
        "variances of nodes from sums leave out what the fixed effects' design sees of the values",
        f"{BLOCKS}/complete.py",
        "    return inner_products(coef, explained) + inner_products(seen, seen)\n",
        "    return inner_products(coef, explained) + 0.0 * inner_products(seen, seen)\n",
        (f"{COMPLETE}::test_quantities_from_sums_are_those_of_everyone[BayesB]",),
    ),
    Mutant(
        "whole-numbers-middle-digit",
        "products in whole numbers give the middle digit the weight of the lowest",
        f"{INFERENCE}/fixed_point.py",
        "(middle * _DIGIT + low)",
        "(middle + low)",
        (f"{WHOLE}::test_products_are_within_half_a_unit_of_each_number",),
    ),
    Mutant(
        "whole-numbers-not-centred",
        "products in whole numbers are those of the counts, not of the centred genotypes",
        f"{INFERENCE}/arrays.py",
        "self._codes(index), 1) - total * self._means(index)",
        "self._codes(index), 1) - 0.0 * total * self._means(index)",
        (f"{WHOLE}::test_genotypes_multiply_as_floats_do",),
    ),
    Mutant(
        "as-many-records",
        "as many records as individuals are taken for one record each",
        f"{INFERENCE}/prepare.py",
        "one_record_each=np.array_equal(y_rows, np.arange(n))",
        "one_record_each=len(y_rows) == n",
        (f"{PREPARE}::test_as_many_records_as_individuals_may_be_of_some_of_them",),
    ),
    Mutant(
        "kernel-own-effect",
        "the kernel for GPUs leaves in what an effect explained before",
        f"{INFERENCE}/pallas_sweep.py",
        "value = chosen(left + squares * old, ",
        "value = chosen(left, ",
        ("tests/inference/test_sequential.py::test_equal_to_the_loop_of_xla",),
    ),
    Mutant(
        "kernel-wrong-group",
        "the kernel for GPUs gives chains with cross-products of their own those of the first",
        f"{INFERENCE}/pallas_sweep.py",
        "each = rows // shape[0]  # responses in a group",
        "each = rows  # responses in a group",
        ("tests/inference/test_sequential.py::test_batched_like_any_function",),
    ),
    Mutant(
        "latent-after-nodes",
        "latent nodes move after the node effects, which have to follow",
        f"{INFERENCE}/sweep.py",
        "        if any(rows.shape[0] for rows in data.latent_rows):\n"
        '            state, _ = latent_move.kernel(keys["latent"], state, data, activation)\n'
        "        state, more = _nodes(keys, state, data, settings, warmup_iteration)\n",
        "        state, more = _nodes(keys, state, data, settings, warmup_iteration)\n"
        "        if any(rows.shape[0] for rows in data.latent_rows):\n"
        '            state, _ = latent_move.kernel(keys["latent"], state, data, activation)\n',
        (f"{CACHES}[joint draws-float64]",),
    ),
)

EFFECTS = (
    Mutant(
        "node-prior-scale",
        "prior variance of node effects taken relative to the residual variance",
        f"{BLOCKS}/trait.py",
        "jnp.broadcast_to(1.0 / variance[0], (count,))",
        "jnp.broadcast_to(1.0 / (variance[0] * var_y), (count,))",
        (f"{PRIORS}::test_node_effects_and_fixed_effects[RR-BLUP-float64]",),
    ),
    Mutant(
        "lasso-variance",
        "lasso effects without the residual variance in theirs",
        f"{BLOCKS}/families.py",
        "return (effects.own * var_e[:, None],)",
        "return (effects.own,)",
        (f"{PRIORS}::test_one_marker_effect_and_fixed_effects[marker-BayesL-float64]",),
    ),
    Mutant(
        "joint-shrinkage",
        "joint draw of genetic values forgets the eigenvalues",
        f"{BLOCKS}/mixed_model.py",
        "prior = spectrum.values * variance[:, None]",
        "prior = jnp.ones_like(spectrum.values) * variance[:, None]",
        (f"{PRIORS}::test_all_marker_effects_and_fixed_effects_jointly[marker-RR-BLUP-float64]",),
    ),
    Mutant(
        "perturbation-scale",
        "noise of random terms: precision in the place of its root",
        f"{BLOCKS}/random_terms.py",
        "contrasts_adjoint(term, part) / jnp.sqrt(level)[:, None]",
        "contrasts_adjoint(term, part) / level[:, None]",
        (f"{EXACT}::test_random_terms_and_fixed_effects_jointly[trait]",),
    ),
    Mutant(
        "parents-in-full",
        "an animal is expected at the sum of its parents, not their mean",
        f"{BLOCKS}/random_terms.py",
        "effects = effects - 0.5 * (padded[:, term.sire] + padded[:, term.dam])",
        "effects = effects - (padded[:, term.sire] + padded[:, term.dam])",
        (
            f"{EXACT}::test_variances_of_random_terms",
            f"{EXACT}::test_random_terms_and_fixed_effects_jointly[trait]",
        ),
    ),
    Mutant(
        "mendelian-root",
        "Mendelian sampling variances without the root",
        f"{INFERENCE}/build_random.py",
        "root_precision=jnp.asarray(np.sqrt(inverse), dtype)",
        "root_precision=jnp.asarray(inverse, dtype)",
        ("tests/inference/test_build_terms.py::test_both_solvers_have_the_same_relationship",),
    ),
    Mutant(
        "genotypes-by-zero",
        "missing genotypes imputed by a dosage of zero instead of the mean",
        f"{INFERENCE}/arrays.py",
        "jnp.where(codes == MISSING_CODE, 0.0, codes.astype(means.dtype) - means)",
        "jnp.where(codes == MISSING_CODE, 0.0, codes.astype(means.dtype)) - means",
        ("tests/inference/test_prepare.py::test_marker_matrix_imputes_by_the_mean_and_multiplies",),
    ),
)

JACOBIANS = (
    Mutant(
        "jacobian-of-scale-move",
        "scale move without the Jacobian of the variance",
        f"{BLOCKS}/families.py",
        "return OrbitPrior(-hyper.df, 0.5",
        "return OrbitPrior(-hyper.df - 2.0, 0.5",
        (f"{PRIORS}::test_density_along_the_scale_orbit[RR-BLUP-False-float64]",),
    ),
    Mutant(
        "jacobian-of-own-variances",
        "scale move without the Jacobian of the level of own variances",
        f"{BLOCKS}/families.py",
        "return OrbitPrior(2.0 * hyper.shape, hyper.rate * effects.level, 2.0",
        "return OrbitPrior(2.0 * hyper.shape - 2.0, hyper.rate * effects.level, 2.0",
        (f"{PRIORS}::test_density_along_the_scale_orbit[BayesA-False-float64]",),
    ),
    Mutant(
        "jacobian-of-latent-move",
        "move of latent nodes without the Jacobian of the scales",
        f"{BLOCKS}/latent_move.py",
        "scales = jnp.sum(prior.slope * log_k",
        "scales = jnp.sum((prior.slope - 2.0) * log_k",
        (f"{LATENT}::test_density_along_a_move[tanh]",),
    ),
    Mutant(
        "jacobian-of-theta",
        "parameters of a function without the Jacobian of their transformation",
        "nnmm_jax/network/parameters.py",
        "total = total + jnp.sum(transform.log_abs_det_jacobian(piece, value))",
        "total = total + 0.0",
        (
            "tests/network/test_parameters.py"
            "::test_density_of_the_unconstrained_vector_integrates_to_one[LogNormal]",
        ),
    ),
    Mutant(
        "scale-of-the-variance",
        "scale move: variance times k instead of k squared",
        f"{BLOCKS}/families.py",
        "coef=k[:, None] * effects.coef, level=k**2 * effects.level",
        "coef=k[:, None] * effects.coef, level=k * effects.level",
        (f"{MECHANICS}::test_scale_move_keeps_the_sum_of_genetic_value_and_residual",),
    ),
)

MISSING = (
    Mutant(
        "mediated-spread",
        "joint move of breeding values: variance of observed omics in the place of missing ones",
        f"{BLOCKS}/mediated_move.py",
        "(effects**2 * layer.variance) @ holes",
        "(effects**2 * layer.variance) @ ~holes",
        (f"{MEDIATED}::test_move_and_missing_omics_jointly[plain]",),
    ),
    Mutant(
        "mediated-noise",
        "joint move of breeding values: the phenotype's part of the noise is another draw",
        f"{BLOCKS}/mediated_move.py",
        "image.append(a * data_noise[0] + ",
        "image.append(a * own + ",
        (f"{MEDIATED}::test_perturbation_and_solver[plain]",),
    ),
    Mutant(
        "mediated-records",
        "joint move of scales: differences of an individual's records do not count",
        f"{BLOCKS}/mediated_scale.py",
        "hyper.df + within[1], [*nodes, *terms]",
        "hyper.df, [*nodes, *terms]",
        (f"{MEDIATED}::test_move_and_missing_omics_jointly[rich]",),
    ),
    Mutant(
        "matheron-noise",
        "exact draw of missing omics: simulated phenotype without its noise",
        f"{BLOCKS}/missing_linear.py",
        "effects @ start + jnp.sqrt(var_y) * noise.normal(key_y, rows.shape, z.dtype)",
        "effects @ start",
        (f"{LONG}::test_matheron_draw_has_the_dense_mean_and_covariance",),
    ),
    Mutant(
        "matheron-observed",
        "exact draw of missing omics: observed ones take part of the correction",
        f"{BLOCKS}/missing_linear.py",
        "variance = jnp.where(observed, 0.0, layer.variance)",
        "variance = layer.variance",
        (f"{LONG}::test_matheron_draw_has_the_dense_mean_and_covariance",),
    ),
    Mutant(
        "matheron-simulates-observed",
        "exact draw of missing omics: observed ones simulated too",
        f"{BLOCKS}/missing_linear.py",
        "    start = jnp.where(observed, z, start)\n",
        "",
        (f"{LONG}::test_matheron_draw_has_the_dense_mean_and_covariance",),
    ),
    Mutant(
        "prior-sd",
        "missing omics without a phenotype: variance in the place of the sd",
        f"{BLOCKS}/missing_prior.py",
        "drawn = layer.mean + jnp.sqrt(layer.variance) * noise",
        "drawn = layer.mean + layer.variance * noise",
        (f"{LONG}::test_hmc_samples_the_conditional[tanh]",),
    ),
    Mutant(
        "records-averaged",
        "the mean of several records counts as one record",
        f"{BLOCKS}/missing_linear.py",
        "state.trait.variance[0] / precision, seen\n",
        "state.trait.variance[0] + 0.0 * precision, seen\n",
        (f"{EXACT}::test_missing_omics_of_a_linear_network[more2]",),
    ),
    Mutant(
        "omics-weights",
        "residual weights of the omics: the root in the place of the weight",
        f"{BLOCKS}/missing_linear.py",
        "variance = variance / first.root[rows] ** 2",
        "variance = variance / first.root[rows]",
        (f"{EXACT}::test_missing_omics_of_a_linear_network[more2]",),
    ),
    Mutant(
        "trait-weights",
        "residual weights of the trait: root forgotten",
        f"{INFERENCE}/prepare.py",
        "None if dataset.weights is None else np.sqrt(dataset.weights[records])",
        "None if dataset.weights is None else dataset.weights[records]",
        ("tests/test_textbook.py::test_animal_model__takes_residual_weights[pedigree]",),
    ),
)

HAMILTON = (
    Mutant(
        "hmc-moves-observed",
        "HMC moves observed cells",
        f"{BLOCKS}/missing_hmc.py",
        "jnp.where(people.observed, people.z, people.mean + people.sd * whitened)",
        "people.mean + people.sd * whitened",
        (f"{MECHANICS}::test_no_observed_cell_moves[tanh]",),
    ),
    Mutant(
        "hmc-kick",
        "leapfrog: the second half of a kick has the wrong sign",
        f"{BLOCKS}/missing_hmc.py",
        "return position, momentum + 0.5 * step * slope, slope",
        "return position, momentum - 0.5 * step * slope, slope",
        (f"{MECHANICS}::test_leapfrog_is_reversible_and_of_second_order",),
    ),
    Mutant(
        "hmc-rotation",
        "the prior's rotation goes by half the step",
        f"{BLOCKS}/missing_hmc.py",
        "cos, sin = jnp.cos(step), jnp.sin(step)",
        "cos, sin = jnp.cos(0.5 * step), jnp.sin(0.5 * step)",
        (f"{MECHANICS}::test_leapfrog_is_reversible_and_of_second_order",),
    ),
    Mutant(
        "hmc-acceptance",
        "HMC accepts without looking at the energy error",
        f"{BLOCKS}/missing_hmc.py",
        "accepted = noise.uniform(key, accept.shape, start.dtype) < accept",
        "accepted = jnp.isfinite(energy_error)",
        (f"{NETWORKS}::test_moves_of_missing_nodes_have_the_right_distribution[False]",),
    ),
    Mutant(
        "hmc-kinetic-energy",
        "HMC accepts by the density alone, without the kinetic energy",
        f"{BLOCKS}/missing_hmc.py",
        "density(end) - before - 0.5 * jnp.sum(end_momentum**2 - momentum**2, axis=0)",
        "density(end) - before",
        (f"{NETWORKS}::test_moves_of_missing_nodes_have_the_right_distribution[False]",),
    ),
    Mutant(
        "nuts-kick",
        "NUTS: the second half of a kick has the wrong sign",
        f"{BLOCKS}/missing_hmc.py",
        "return new._replace(r=new.r - 0.5 * step * new.z_grad)",
        "return new._replace(r=new.r + 0.5 * step * new.z_grad)",
        (f"{NETWORKS}::test_moves_of_missing_nodes_have_the_right_distribution[True]",),
    ),
    Mutant(
        "hmc-adapts-for-ever",
        "step sizes go on adapting after warm-up",
        f"{BLOCKS}/missing_hmc.py",
        "adapting = warmup_iteration > 0",
        "adapting = warmup_iteration > -1",
        (f"{MECHANICS}::test_step_sizes_are_fixed_after_warmup",),
    ),
)

REPORTED = (
    Mutant(
        "unit-of-node-variances",
        "reported variances of nodes are in units, not in squared units",
        "nnmm_jax/posterior/assemble.py",
        'sd**2 if unit == "node2" else sd',
        "sd",
        ("tests/test_fit.py::test_results_follow_the_units_of_the_data[linear]",),
    ),
    Mutant(
        "unit-of-trait-variances",
        "reported variances of the trait are in units, not in squared units",
        "nnmm_jax/posterior/assemble.py",
        '"trait2": trait_sd**2}',
        '"trait2": trait_sd}',
        ("tests/test_fit.py::test_results_follow_the_units_of_the_data[linear]",),
    ),
    Mutant(
        "shift-of-the-intercept",
        "reported intercept as if omics were centred in their own units",
        "nnmm_jax/posterior/assemble.py",
        "shift = value @ scaling.node_mean",
        "shift = 0.0",
        ("tests/test_fit.py::test_linear_predictions_are_the_reported_effects_times_the_omics",),
    ),
    Mutant(
        "predictive-noise",
        "posterior predictive phenotypes: variance in the place of the sd",
        "nnmm_jax/posterior/assemble.py",
        "return y_mean + np.sqrt(var_residual)[..., None] * noise",
        "return y_mean + var_residual[..., None] * noise",
        ("tests/posterior/test_assemble.py::test_predictive_draws_have_the_residual_variance",),
    ),
    Mutant(
        "groups-in-h2",
        "heritability leaves the variance of groups out of the whole",
        f"{INFERENCE}/quantities.py",
        "variance = jnp.var(total) + other + trait.variance[0]",
        "variance = jnp.var(total) + trait.variance[0]",
        ("tests/inference/test_quantities.py::test_heritability_is_a_share_of_all_variances",),
    ),
    Mutant(
        "sign-of-latent-nodes",
        "latent nodes are reported the wrong way round",
        f"{INFERENCE}/quantities.py",
        "flip = data.latent & (w < 0)",
        "flip = data.latent & (w > 0)",
        (f"{MECHANICS}::test_latent_nodes_have_positive_effects",),
    ),
    Mutant(
        "running-moments",
        "running moments: squares about the old mean",
        f"{INFERENCE}/collect.py",
        "moments.m2 + delta * (value - mean)",
        "moments.m2 + delta * delta",
        (f"{MECHANICS}::test_moments_are_those_of_the_draws",),
    ),
    Mutant(
        "chains-alike",
        "all chains have the same random numbers",
        f"{INFERENCE}/run.py",
        "(random.key(seed), np.arange(chains))",
        "(random.key(seed), 0 * np.arange(chains))",
        (f"{MECHANICS}::test_same_seed_same_draws_shown_or_not[linear]",),
    ),
    Mutant(
        "hidden-beside-latent",
        "R-hat and ESS of all node effects' variances hidden where any node is latent",
        "nnmm_jax/posterior/diagnostics.py",
        "return bool(latent_nodes & set(posterior[f\"node{found[1] or ''}\"].values))",
        "return True",
        ("tests/test_networks.py::test_latent_nodes_are_not_judged_and_the_summary_says_so",),
    ),
    Mutant(
        "hidden-theta",
        "R-hat and ESS of a function's parameters hidden though no node is latent",
        "nnmm_jax/posterior/diagnostics.py",
        "    if latent_nodes:\n        names = [",
        "    if True:\n        names = [",
        (f"{DIAGNOSTICS}::test_diagnostics__parameters_of_a_function_unless_a_node_is_latent",),
    ),
    Mutant(
        "hidden-node-effects",
        "R-hat and ESS of the effects of measured nodes hidden",
        "nnmm_jax/posterior/diagnostics.py",
        "observed = [node not in latent_nodes for",
        "observed = [node in latent_nodes for",
        (f"{DIAGNOSTICS}::test_diagnostics__columns_and_identified_quantities",),
    ),
    Mutant(
        "density-without-unit",
        "log density of phenotypes on the internal scale, not in the trait's units",
        "nnmm_jax/posterior/assemble.py",
        "_single(values[..., self.rows] - self.shift)",
        "_single(values[..., self.rows])",
        ("tests/test_networks.py::test_the_density_of_phenotypes_is_in_the_units_of_the_trait",),
    ),
    Mutant(
        "ties-of-q-values",
        "false discovery rate of markers of equal probability: only those before it counted",
        "nnmm_jax/reports/fdr.py",
        'side="right") - 1',
        'side="left")',
        (
            "tests/reports/test_fdr.py"
            "::test_q_values_are_the_mean_error_of_all_at_least_as_probable",
        ),
    ),
)

DATA = (
    Mutant(
        "order-for-id",
        "omics joined by the order of rows instead of by id",
        "nnmm_jax/data/align.py",
        "table.index.get_indexer(people.ids)",
        "np.arange(len(people.ids)) % len(table)",
        (f"{ALIGN}::test_rows_are_joined_by_id_in_the_order_of_the_genotypes",),
    ),
    Mutant(
        "other-allele",
        "the other allele of a VCF counted",
        "nnmm_jax/data/vcf.py",
        "counts = alleles.sum(axis=1).astype(np.float64)",
        "counts = 2.0 - alleles.sum(axis=1).astype(np.float64)",
        (f"{FORMATS}::test_every_format_gives_identical_data",),
    ),
    Mutant(
        "dosages-for-genotypes",
        "dosages of a VCF ignored where it has genotypes",
        "nnmm_jax/data/vcf.py",
        'if "DS" in formats:',
        'if "GT" not in formats:',
        (f"{FORMATS}::test_dosages_with_decimals_are_identical_too[vcf]",),
    ),
    Mutant(
        "missing-of-bed",
        "missing genotypes of a bed file taken for no copy",
        "nnmm_jax/data/plink.py",
        "block[block == _BED_MISSING] = MISSING_CODE",
        "block[block == _BED_MISSING] = 0",
        (f"{FORMATS}::test_every_format_gives_identical_data",),
    ),
    Mutant(
        "frequency-of-counted",
        "frequency of the counted allele in place of the rarer one",
        "nnmm_jax/data/genotypes.py",
        "rarer = np.fmin(counts.frequency, 1 - counts.frequency)",
        "rarer = counts.frequency",
        (f"{QUALITY}::test_quality_control_does_not_depend_on_the_counted_allele",),
    ),
    Mutant(
        "equal-heterozygotes",
        "Hardy-Weinberg test without the two phases of a heterozygote",
        "nnmm_jax/data/quality.py",
        "weight = possible * np.log(2) - sum(",
        "weight = possible * 0.0 - sum(",
        (f"{QUALITY}::test_hardy_weinberg_p_is_exact",),
    ),
    Mutant(
        "drawn-from-missing",
        "missing genotypes drawn from all cells, missing ones too",
        "nnmm_jax/data/imputation.py",
        "rng.choice(block[~lacks, column],",
        "rng.choice(block[:, column],",
        ("tests/data/test_imputation.py::test_draws_follow_the_observed_dosages_of_their_marker",),
    ),
    Mutant(
        "mean-of-all-cells",
        "means of markers over all individuals, those without the genotype counted as 0",
        f"{INFERENCE}/build_arrays.py",
        "found[part] = total / (genotypes.shape[0] - missing)",
        "found[part] = total / genotypes.shape[0]",
        (f"{PREPARE}::test_marker_matrix_imputes_by_the_mean_and_multiplies",),
    ),
)

START = (
    Mutant(
        "one-warm-draw",
        "all chains start at the same draw of the variational fit",
        f"{INFERENCE}/variational_draws.py",
        "family.draw(random.fold_in(key, _WARM), factors",
        "family.draw(random.key(_WARM), factors",
        (f"{VARIATIONAL}::test_a_quick_fit_is_near_the_ridge_solution",),
    ),
    Mutant(
        "masks-alike",
        "a variational program is taken for other missing cells than its own",
        f"{INFERENCE}/variational.py",
        "np.packbits(found).tobytes()",
        "np.packbits(found & False).tobytes()",
        (f"{VARIATIONAL}::test_fits_of_equal_families_share_their_programs",),
    ),
)

MUTANTS = (
    *VARIANCES,
    *MIXTURES,
    *RESIDUALS,
    *FIXED_EFFECTS,
    *EFFECTS,
    *JACOBIANS,
    *MISSING,
    *HAMILTON,
    *REPORTED,
    *DATA,
    *START,
)
