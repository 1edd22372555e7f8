//! Two proxies and an application in one process: the data path as a whole, without a control plane.

mod http;
mod limits;
mod opaque;
mod routes;
mod tunnel;
