"""What was read: chunks with exact offsets, embeddings, the knowledge base, ranking, the reader and the summarizer."""
