"""Reading: what kind of answer a question wants, the spans of texts that give it, which of them to believe, and how all that is taught."""
