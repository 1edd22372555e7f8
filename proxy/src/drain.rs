//! Under construction: drain.
