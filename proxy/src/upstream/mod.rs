//! Under construction: upstream.
