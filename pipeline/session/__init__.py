"""Dagger's GraphQL session over the embedded engine: schema, fields, ids, wire errors, HTTP server."""
