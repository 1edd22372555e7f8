//! No sidecars: what the load generator and the application can do by themselves.

use super::Pair;
use crate::{application::Service, ground::Ground};
use std::net::SocketAddr;

pub(super) fn start(service: Service, ground: &Ground) -> Pair {
    Pair {
        entry: SocketAddr::new(ground.loopback.application(), service.port()),
        sidecars: None,
    }
}
