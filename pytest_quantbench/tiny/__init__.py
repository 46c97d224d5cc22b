"""The embedded model: its weights, tokenizer, text and questions, and the invented world that they are made from."""
