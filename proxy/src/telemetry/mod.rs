//! Under construction: telemetry.
