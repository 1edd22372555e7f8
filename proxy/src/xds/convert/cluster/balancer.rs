//! How a cluster chooses among its endpoints: `load_balancing_policy`, or `lb_policy` with its `lb_config`.

use super::super::field::{At, Fault, decode, is, percent, positive, required, unsupported};
use crate::snapshot::{LoadBalancer, Share, cluster::SlowStart};
use std::num::NonZeroU32;
use weft_xds_proto::{
    envoy::{
        envoy::{
            config::cluster::v3::{
                Cluster, LoadBalancingPolicy,
                cluster::{LbConfig, LbPolicy, SlowStartConfig as LegacySlowStart},
            },
            extensions::load_balancing_policies::{
                common::v3::{ConsistentHashingLbConfig, SlowStartConfig},
                least_request::v3::LeastRequest,
                maglev::v3::Maglev,
                random::v3::Random,
                ring_hash::v3::RingHash,
                round_robin::v3::RoundRobin,
            },
        },
        google::protobuf::{Any, UInt32Value, UInt64Value},
    },
    weft::v1::PeakEwma,
};

/// The most points of a ring (`RingHash.maximum_ring_size`).
const MOST_POINTS: u32 = 8 << 20;
/// The most places of a Maglev table (`Maglev.table_size`).
const MOST_PLACES: u32 = 5_000_011;
/// Absent `SlowStartConfig.min_weight_percent`.
const SLOW_START_MINIMUM: Share = Share::percent(10);

/// What is chosen by, and how slowly endpoints that are new start.
pub(super) type Balancing = (LoadBalancer, Option<SlowStart>);

/// `load_balancing_policy` decides when it is there, else `lb_policy`, whose default is round robin.
///
/// Not honoured: localities in these policies (see `weft.v1.ServiceMetadata.zone_preference`), hash functions and
/// numbers of choices other than our own.
pub(super) fn balancing(cluster: &Cluster) -> Result<Balancing, Fault> {
    if let Some(policy) = &cluster.load_balancing_policy {
        return first_known(policy).at("load_balancing_policy.policies");
    }
    let policy = LbPolicy::try_from(cluster.lb_policy).map_err(|_| {
        Fault::new(format!("{} is not a policy", cluster.lb_policy)).at("lb_policy")
    })?;
    let config = cluster.lb_config.as_ref();
    match policy {
        LbPolicy::RoundRobin => {
            let slow_start = match config {
                Some(LbConfig::RoundRobinLbConfig(config)) => {
                    legacy(config.slow_start_config.as_ref()).at("round_robin_lb_config")?
                }
                _ => None,
            };
            Ok((LoadBalancer::RoundRobin, slow_start))
        }
        LbPolicy::LeastRequest => {
            let slow_start = match config {
                Some(LbConfig::LeastRequestLbConfig(config)) => {
                    legacy(config.slow_start_config.as_ref()).at("least_request_lb_config")?
                }
                _ => None,
            };
            Ok((LoadBalancer::LeastRequest, slow_start))
        }
        LbPolicy::Random => Ok((LoadBalancer::Random, None)),
        LbPolicy::RingHash => {
            let (minimum, maximum) = match config {
                Some(LbConfig::RingHashLbConfig(config)) => (
                    config.minimum_ring_size.as_ref(),
                    config.maximum_ring_size.as_ref(),
                ),
                _ => (None, None),
            };
            let ring = ring(minimum, maximum, None).at("ring_hash_lb_config")?;
            Ok((ring, None))
        }
        LbPolicy::Maglev => {
            let size = match config {
                Some(LbConfig::MaglevLbConfig(config)) => config.table_size.as_ref(),
                _ => None,
            };
            Ok((maglev(size, None).at("maglev_lb_config")?, None))
        }
        LbPolicy::ClusterProvided | LbPolicy::LoadBalancingPolicyConfig => {
            let name = policy.as_str_name();
            let fault = Fault::new(format!("{name} is not supported by this proxy"));
            Err(fault.at("lb_policy"))
        }
    }
}

/// "The first policy that is supported" (`LoadBalancingPolicy.policies`).
fn first_known(policy: &LoadBalancingPolicy) -> Result<Balancing, Fault> {
    let configs = policy.policies.iter().filter_map(|policy| {
        policy
            .typed_extension_config
            .as_ref()?
            .typed_config
            .as_ref()
    });
    let mut unknown = Vec::new();
    for any in configs {
        match known(any)? {
            Some(balancing) => return Ok(balancing),
            None => unknown.push(any.type_url.as_str()),
        }
    }
    Err(Fault::new(format!(
        "none is supported by this proxy: {unknown:?}"
    )))
}

/// `None` for a policy of a type that is not known.
fn known(any: &Any) -> Result<Option<Balancing>, Fault> {
    let known = if is::<PeakEwma>(any) {
        peak_ewma(&decode(any)?).at("weft.v1.PeakEwma")?
    } else if is::<LeastRequest>(any) {
        let policy: LeastRequest = decode(any)?;
        let slow_start = slow_start(policy.slow_start_config.as_ref()).at("least_request")?;
        (LoadBalancer::LeastRequest, slow_start)
    } else if is::<RoundRobin>(any) {
        let policy: RoundRobin = decode(any)?;
        let slow_start = slow_start(policy.slow_start_config.as_ref()).at("round_robin")?;
        (LoadBalancer::RoundRobin, slow_start)
    } else if is::<Random>(any) {
        decode::<Random>(any)?;
        (LoadBalancer::Random, None)
    } else if is::<RingHash>(any) {
        let policy: RingHash = decode(any)?;
        let (minimum, maximum) = (&policy.minimum_ring_size, &policy.maximum_ring_size);
        let hashing = policy.consistent_hashing_lb_config.as_ref();
        let ring = ring(minimum.as_ref(), maximum.as_ref(), hashing).at("ring_hash")?;
        (ring, None)
    } else if is::<Maglev>(any) {
        let policy: Maglev = decode(any)?;
        let hashing = policy.consistent_hashing_lb_config.as_ref();
        let maglev = maglev(policy.table_size.as_ref(), hashing).at("maglev")?;
        (maglev, None)
    } else {
        return Ok(None);
    };
    Ok(Some(known))
}

fn peak_ewma(policy: &PeakEwma) -> Result<Balancing, Fault> {
    let default = LoadBalancer::PEAK_EWMA;
    let load_balancer = LoadBalancer::PeakEwma {
        decay: positive("decay", policy.decay.as_ref())?.unwrap_or(default.decay()),
        default_rtt: positive("default_rtt", policy.default_rtt.as_ref())?
            .unwrap_or(default.default_rtt()),
    };
    let slow_start = policy.slow_start.as_ref();
    let slow_start = slow_start
        .map(|config| settings(config).at("slow_start"))
        .transpose()?;
    Ok((load_balancer, slow_start))
}

fn slow_start(config: Option<&SlowStartConfig>) -> Result<Option<SlowStart>, Fault> {
    config
        .map(|config| settings(config).at("slow_start_config"))
        .transpose()
}

/// The same message under its older name.
fn legacy(config: Option<&LegacySlowStart>) -> Result<Option<SlowStart>, Fault> {
    let config = config.cloned().map(|config| SlowStartConfig {
        slow_start_window: config.slow_start_window,
        aggression: config.aggression,
        min_weight_percent: config.min_weight_percent,
    });
    slow_start(config.as_ref())
}

fn settings(config: &SlowStartConfig) -> Result<SlowStart, Fault> {
    let window = positive("slow_start_window", config.slow_start_window.as_ref())?;
    let aggression = config.aggression.as_ref();
    let aggression = aggression.map_or(1.0, |aggression| aggression.default_value);
    if !(aggression > 0.0 && aggression.is_finite()) {
        let fault = Fault::new(format!("must be > 0, got {aggression}"));
        return Err(fault.at("aggression.default_value"));
    }
    let minimum = percent("min_weight_percent", config.min_weight_percent.as_ref())?;
    Ok(SlowStart {
        window: required("slow_start_window", window)?,
        aggression,
        minimum: minimum.unwrap_or(SLOW_START_MINIMUM),
    })
}

fn ring(
    minimum: Option<&UInt64Value>,
    maximum: Option<&UInt64Value>,
    hashing: Option<&ConsistentHashingLbConfig>,
) -> Result<LoadBalancer, Fault> {
    let LoadBalancer::RingHash {
        minimum_size,
        maximum_size,
        ..
    } = LoadBalancer::RING_HASH
    else {
        unreachable!("RING_HASH is a ring");
    };
    let size = |field, value, default: NonZeroU32| match value {
        Some(value) => up_to(field, value, MOST_POINTS),
        None => Ok(default),
    };
    let minimum_size = size("minimum_ring_size", minimum, minimum_size)?;
    let maximum_size = size("maximum_ring_size", maximum, maximum_size)?;
    if minimum_size > maximum_size {
        let reason = format!("must be <= maximum_ring_size {maximum_size}, got {minimum_size}");
        return Err(Fault::new(reason).at("minimum_ring_size"));
    }
    Ok(LoadBalancer::RingHash {
        minimum_size,
        maximum_size,
        bounded_load: bounded_load(hashing)?,
    })
}

fn maglev(
    size: Option<&UInt64Value>,
    hashing: Option<&ConsistentHashingLbConfig>,
) -> Result<LoadBalancer, Fault> {
    let LoadBalancer::Maglev { mut table_size, .. } = LoadBalancer::MAGLEV else {
        unreachable!("MAGLEV is Maglev");
    };
    if let Some(size) = size {
        table_size = up_to("table_size", size, MOST_PLACES)?;
        if !is_prime(table_size.get()) {
            let fault = Fault::new(format!("must be a prime, got {table_size}"));
            return Err(fault.at("table_size"));
        }
    }
    Ok(LoadBalancer::Maglev {
        table_size,
        bounded_load: bounded_load(hashing)?,
    })
}

fn bounded_load(hashing: Option<&ConsistentHashingLbConfig>) -> Result<Option<NonZeroU32>, Fault> {
    let Some(hashing) = hashing else {
        return Ok(None);
    };
    let bound = || {
        unsupported("use_hostname_for_hashing", hashing.use_hostname_for_hashing)?;
        let Some(&UInt32Value { value }) = hashing.hash_balance_factor.as_ref() else {
            return Ok(None);
        };
        let factor = NonZeroU32::new(value).filter(|factor| factor.get() >= 100);
        let fault = || Fault::new(format!("must be >= 100, got {value}")).at("hash_balance_factor");
        factor.ok_or_else(fault).map(Some)
    };
    bound().at("consistent_hashing_lb_config")
}

fn up_to(field: &str, value: &UInt64Value, most: u32) -> Result<NonZeroU32, Fault> {
    let value = value.value;
    let number = u32::try_from(value).ok().filter(|number| *number <= most);
    number
        .and_then(NonZeroU32::new)
        .ok_or_else(|| Fault::new(format!("must be 1 to {most}, got {value}")).at(field))
}

fn is_prime(number: u32) -> bool {
    let divisors = (2..).take_while(|divisor| u64::from(*divisor).pow(2) <= u64::from(number));
    number > 1
        && divisors
            .into_iter()
            .all(|divisor: u32| !number.is_multiple_of(divisor))
}
