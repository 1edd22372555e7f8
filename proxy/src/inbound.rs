//! Under construction: inbound.
