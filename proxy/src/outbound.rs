//! Under construction: outbound.
