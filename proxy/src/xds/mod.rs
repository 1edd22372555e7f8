//! Under construction: xds.
