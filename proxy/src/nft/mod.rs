//! Transparent interception: the nftables rules that bring a workload's connections to the proxy.
//!
//! `rules` decides what the rules are, `expression` says them in the kernel's terms, `encode` and `decode`
//! turn those into netlink messages and back, `wire` frames them, `netlink` carries them, `verify` compares
//! what the kernel then holds with what was meant, and `cli` is `weft-proxy init`. All but `netlink` and `cli`
//! are free of IO.
//!
//! Everything lives in one table, `inet weft`, which is replaced and removed as a whole. What else the host
//! has in nftables or iptables is never touched. `docs/interception.md` is the page for operators.

pub mod cli;
mod decode;
mod encode;
mod error;
mod expression;
mod netlink;
pub mod rules;
mod verify;
mod wire;

pub use error::InitError;

#[cfg(test)]
mod tests;
