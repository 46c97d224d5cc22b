"""Makes a verdict of a criterion, samples and the reference's samples: pass, fail, undecided or anomalous."""
