//! Under construction: tls.
