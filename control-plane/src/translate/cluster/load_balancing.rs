//! How an endpoint is chosen, as `Cluster` has it.

use super::super::{
    dialect::Form,
    proto::{any, duration, limit_of, number, percent, wide_number},
};
use crate::world::{
    PortPolicy,
    policy::{Algorithm, ConsistentHash, SlowStart, Zone},
    quantity::Share,
};
use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{
                Cluster, LoadBalancingPolicy,
                cluster::{CommonLbConfig, LbConfig, LbPolicy, RingHashLbConfig},
                load_balancing_policy::Policy,
            },
            core::v3::{RuntimeDouble, TypedExtensionConfig},
        },
        extensions::load_balancing_policies::{
            common::v3::{
                ConsistentHashingLbConfig, LocalityLbConfig, SlowStartConfig,
                locality_lb_config::{
                    LocalityConfigSpecifier, ZoneAwareLbConfig,
                    zone_aware_lb_config::ForceLocalZone,
                },
            },
            least_request::v3::LeastRequest,
            maglev::v3::Maglev,
            random::v3::Random,
            ring_hash::v3::RingHash,
            round_robin::v3::RoundRobin,
        },
    },
    google::protobuf::Any,
};
use weft_xds_proto::weft::v1::{PeakEwma, service_metadata::ZonePreference};

/// How the endpoints of a destination are chosen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Balancing {
    algorithm: Algorithm,
    slow_start: Option<SlowStart>,
    zone: Zone,
    panic_threshold: Share,
}

impl Balancing {
    pub(super) fn of(policy: &PortPolicy) -> Self {
        Self {
            algorithm: policy.algorithm.clone(),
            slow_start: policy.slow_start.clone(),
            zone: policy.zone,
            panic_threshold: policy.panic_threshold,
        }
    }

    /// The cluster, as far as this decides it.
    pub(super) fn cluster(&self, form: Form) -> Cluster {
        if form == Form::Grpc {
            return self.grpc();
        }
        Cluster {
            load_balancing_policy: Some(LoadBalancingPolicy {
                policies: self.policies(form),
            }),
            common_lb_config: Some(CommonLbConfig {
                healthy_panic_threshold: percent(self.panic_threshold),
                ..CommonLbConfig::default()
            }),
            ..Cluster::default()
        }
    }

    /// Envoy has its zones in the policy itself.
    pub(super) fn zone_preference(&self) -> ZonePreference {
        match self.zone {
            Zone::Off => ZonePreference::Off,
            Zone::Prefer => ZonePreference::Prefer,
            Zone::Strict => ZonePreference::Strict,
        }
    }

    /// Round robin unless a hash is asked for: what every gRPC client has (gRFCs A27, A42).
    fn grpc(&self) -> Cluster {
        let Algorithm::RingHash {
            minimum_size,
            maximum_size,
            ..
        } = &self.algorithm
        else {
            return Cluster {
                lb_policy: LbPolicy::RoundRobin.into(),
                ..Cluster::default()
            };
        };
        Cluster {
            lb_policy: LbPolicy::RingHash.into(),
            lb_config: Some(LbConfig::RingHashLbConfig(RingHashLbConfig {
                minimum_ring_size: wide_number(minimum_size.get()),
                maximum_ring_size: wide_number(maximum_size.get()),
                ..RingHashLbConfig::default()
            })),
            ..Cluster::default()
        }
    }

    /// In order of preference: a client takes the first that it knows.
    fn policies(&self, form: Form) -> Vec<Policy> {
        let least_request = || {
            policy(
                "envoy.load_balancing_policies.least_request",
                any(LeastRequest {
                    slow_start_config: self.slow_start(),
                    locality_lb_config: self.localities(form),
                    ..LeastRequest::default()
                }),
            )
        };
        match &self.algorithm {
            Algorithm::PeakEwma { decay, default_rtt } => {
                let peak_ewma = policy(
                    "weft.peak_ewma",
                    any(PeakEwma {
                        decay: Some(duration(*decay)),
                        default_rtt: Some(duration(*default_rtt)),
                        slow_start: self.slow_start(),
                    }),
                );
                let own = (form == Form::Weft).then_some(peak_ewma);
                own.into_iter().chain([least_request()]).collect()
            }
            Algorithm::LeastRequest => vec![least_request()],
            // Weighted only in that endpoints have weights.
            Algorithm::RoundRobin | Algorithm::WeightedRoundRobin => vec![policy(
                "envoy.load_balancing_policies.round_robin",
                any(RoundRobin {
                    slow_start_config: self.slow_start(),
                    locality_lb_config: self.localities(form),
                }),
            )],
            Algorithm::Random => vec![policy(
                "envoy.load_balancing_policies.random",
                any(Random {
                    locality_lb_config: self.localities(form),
                }),
            )],
            Algorithm::RingHash {
                hash,
                minimum_size,
                maximum_size,
            } => vec![policy(
                "envoy.load_balancing_policies.ring_hash",
                any(RingHash {
                    minimum_ring_size: wide_number(minimum_size.get()),
                    maximum_ring_size: wide_number(maximum_size.get()),
                    consistent_hashing_lb_config: bounded_load(hash),
                    ..RingHash::default()
                }),
            )],
            Algorithm::Maglev { hash, table_size } => vec![policy(
                "envoy.load_balancing_policies.maglev",
                any(Maglev {
                    table_size: wide_number(table_size.get()),
                    consistent_hashing_lb_config: bounded_load(hash),
                    ..Maglev::default()
                }),
            )],
        }
    }

    fn slow_start(&self) -> Option<SlowStartConfig> {
        let slow_start = self.slow_start.as_ref()?;
        Some(SlowStartConfig {
            slow_start_window: Some(duration(slow_start.window)),
            aggression: Some(RuntimeDouble {
                default_value: slow_start.aggression.as_f64(),
                // Required, although nothing sets it.
                runtime_key: "weft.slow_start.aggression".to_owned(),
            }),
            min_weight_percent: percent(slow_start.minimum),
        })
    }

    /// What Envoy makes of zones. Said here rather than in `common_lb_config`, which Envoy refuses beside a
    /// `load_balancing_policy`; and said always, since Envoy prefers its zone unless told not to.
    fn localities(&self, form: Form) -> Option<LocalityLbConfig> {
        let zone_aware = match self.zone {
            Zone::Off => ZoneAwareLbConfig {
                routing_enabled: percent(Share::NONE),
                ..ZoneAwareLbConfig::default()
            },
            Zone::Prefer => ZoneAwareLbConfig {
                min_cluster_size: wide_number(1u32),
                ..ZoneAwareLbConfig::default()
            },
            Zone::Strict => ZoneAwareLbConfig {
                min_cluster_size: wide_number(1u32),
                force_local_zone: Some(ForceLocalZone {
                    min_size: number(1u32),
                }),
                ..ZoneAwareLbConfig::default()
            },
        };
        (form == Form::Envoy).then_some(LocalityLbConfig {
            locality_config_specifier: Some(LocalityConfigSpecifier::ZoneAwareLbConfig(zone_aware)),
        })
    }
}

fn bounded_load(hash: &ConsistentHash) -> Option<ConsistentHashingLbConfig> {
    Some(ConsistentHashingLbConfig {
        hash_balance_factor: limit_of(hash.bounded_load?),
        ..ConsistentHashingLbConfig::default()
    })
}

fn policy(name: &str, config: Any) -> Policy {
    Policy {
        typed_extension_config: Some(TypedExtensionConfig {
            name: name.to_owned(),
            typed_config: Some(config),
        }),
    }
}
