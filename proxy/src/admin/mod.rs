//! Under construction: admin.
