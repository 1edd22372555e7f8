//! The control plane's benchmark: the world that it is given, what its simulated proxies say, and what counts.

pub mod http2;
pub mod ledger;
pub mod proxy;
pub mod world;
