"Errors, runtime, reports, records, checkpoints and caches: what every other room stands on."
