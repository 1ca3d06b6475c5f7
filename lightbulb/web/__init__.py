"The web: a reactor of its own, polite fetching, extraction, a demonstration site, search."
