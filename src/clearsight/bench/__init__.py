"""`clearsight bench`: this engine and its peers measured in one run, beside the machine's own limits."""
