//! Under construction: app.
