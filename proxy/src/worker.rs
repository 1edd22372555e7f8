//! Under construction: worker.
