"""What the user states: layers, priors, activations; the joint density; the simulator."""
