"What a person starts: the command line and its output."
