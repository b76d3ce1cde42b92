"""The kinds of things: shapes and how they are painted."""
