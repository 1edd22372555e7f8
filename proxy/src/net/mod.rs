//! Under construction: net.
