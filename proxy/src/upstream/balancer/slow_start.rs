//! Slow start: an endpoint that joined a cluster in use comes to its full share little by little.

use crate::snapshot::cluster::SlowStart;
use std::time::Duration;

/// Never nothing: there may be no other.
const LEAST: f64 = 0.001;

/// How much of its share an endpoint of such an age may take: Envoy's `SlowStartConfig`.
pub(super) fn factor(config: &SlowStart, age: Duration) -> f64 {
    if age >= config.window {
        return 1.0;
    }
    let time = age.as_secs_f64() / config.window.as_secs_f64();
    time.powf(1.0 / config.aggression)
        .max(config.minimum.as_f64())
        .max(LEAST)
}
