"""A second corpus, of whole files: other shapes than those of the first, drawn by lot as well."""
