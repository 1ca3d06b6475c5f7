"Search over what could be done or thought next. Knows no network: the caller hands in the functions."
