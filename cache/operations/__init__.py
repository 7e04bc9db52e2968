"""What is done with whole caches: counting, checking, other labels, numpy files, smaller copies."""
