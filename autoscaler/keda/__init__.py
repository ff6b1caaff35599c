"""An external scaler of KEDA: the same decisions, for those whose replicas KEDA sets."""
