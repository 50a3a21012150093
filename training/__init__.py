"""Training: from texts or conversations to a model that the chat serves; the built-in guide among them."""
