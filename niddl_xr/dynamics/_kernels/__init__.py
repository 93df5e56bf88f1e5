"""Numbers in, numbers out: what the verbs on populations compute, on numpy and scipy alone."""
