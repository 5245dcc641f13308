"""What goes over a connection: the head of a request, the head of an answer, and the answer's content."""
