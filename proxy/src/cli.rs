//! Under construction: cli.
