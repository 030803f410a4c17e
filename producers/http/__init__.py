"""Changes over HTTP: CloudEvents and plain records become changes of the sender's own datasets."""
