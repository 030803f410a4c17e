"""Tables captured: what a department's own PostgreSQL writes in its log becomes changes of a dataset."""
