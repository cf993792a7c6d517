//! From decoded rules to validated ones.
