"""Starling: a small llama-architecture language model trained from scratch on children's books."""
