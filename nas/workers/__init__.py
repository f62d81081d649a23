"""Where trials run: Ray's cluster, Tune and Train, the actor that evaluates a trial, the coordinator. Ray's door."""
