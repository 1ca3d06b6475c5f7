"""What was read: chunks with exact offsets, embeddings, the knowledge base, ranking and the summarizer."""
