//! Weft on the Kubernetes API: the stand-in, which `api` checks, or a real one.

mod api;

use weft_tests::Suite;

pub(crate) fn add(suite: Suite) -> Suite {
    api::add(suite)
}
