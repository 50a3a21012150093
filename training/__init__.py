"""How the built-in guide is made: what it knows, its corpus, tokenizer, training, evaluation and export."""
