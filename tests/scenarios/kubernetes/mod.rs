//! Weft on the Kubernetes API: the stand-in, which `api` checks, or a real one.

mod api;
mod install;
mod unsteady;

use weft_tests::Suite;

pub(crate) fn add(suite: Suite) -> Suite {
    unsteady::add(install::add(api::add(suite)))
}
