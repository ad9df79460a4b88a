"""A fit that other processes kill: begins, or goes on where it was, and saves its result.

python killed_run.py FOLDER SAMPLES
"""

import sys
from pathlib import Path

import nnmm_jax as nm

WARMUP, EVERY = 200, 25


def main(folder: Path, samples: int) -> None:
    """Fit a small network, with a checkpoint after each piece of the run."""
    sizes = nm.SimulationSettings(individuals=40, markers=30, omics=2)
    data = nm.simulate(sizes, seed=4).dataset()
    network = nm.Network(activation="tanh", skip_prior="RR-BLUP")
    place = nm.Checkpoints(folder / "run", every=EVERY)
    if (folder / "run" / "settings.json").is_file():
        result = nm.resume(place, data, network, progress=False)
    else:
        result = nm.fit(
            data,
            network,
            warmup=WARMUP,
            samples=samples,
            chains=2,
            seed=1,
            progress=False,
            checkpoint=place,
        )
    result.save(folder / "result", overwrite=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
