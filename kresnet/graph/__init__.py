"""Reading and rewriting a model's graph: the one room that touches Keras's private parts."""
