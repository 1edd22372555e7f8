//! Weft on the Kubernetes API: the stand-in, which `api` checks, or a real one.

mod api;
mod install;
mod refused;
mod replicas;
mod unsteady;

use weft_tests::Suite;

pub(crate) fn add(suite: Suite) -> Suite {
    let suite = api::add(suite);
    let suite = install::add(suite);
    let suite = unsteady::add(suite);
    let suite = replicas::add(suite);
    refused::add(suite)
}
