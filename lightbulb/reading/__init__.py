"""Reading: what kind of answer a question wants, the spans of texts that give it, how sure one may be, and how all that is taught."""
