//! What concerns the endpoints of a service: balancing, connections, breakers.

use super::{Invalid, count};
use crate::{
    api::{
        self, Bytes, Duration,
        traffic_policy::{
            Algorithm as Name, CircuitBreaker, Connections, ConsistentHash, FailureRatio, Failures,
            GrpcCode, LoadBalancer, TcpKeepalive, Zone,
        },
    },
    source::convert::text::header_name,
    world::policy::{
        self, Algorithm, Breaker, HashKey, Http2, LoadBalancing, SlowStart, Transport,
    },
    world::quantity::Factor,
};
use std::num::NonZeroU32;

pub(super) fn load_balancing(balancer: LoadBalancer) -> Result<LoadBalancing, Invalid> {
    let algorithm = algorithm(&balancer)?;
    let slow_start = balancer.slow_start.map(|slow_start| SlowStart {
        window: slow_start.window.get(),
        aggression: factor(slow_start.aggression),
        minimum: slow_start.minimum_percent.share(),
    });
    let grows = !matches!(
        algorithm,
        Some(Algorithm::Random | Algorithm::RingHash { .. } | Algorithm::Maglev { .. })
    );
    if slow_start.is_some() && !grows {
        let reason = "does not go with this algorithm; remove it, or write PeakEwma, LeastRequest, RoundRobin or WeightedRoundRobin";
        return Err(Invalid::new("spec.loadBalancer.slowStart", reason));
    }
    Ok(LoadBalancing {
        algorithm,
        slow_start,
        zone: match balancer.zone {
            Zone::Off => policy::Zone::Off,
            Zone::Prefer => policy::Zone::Prefer,
            Zone::Strict => policy::Zone::Strict,
        },
        panic_threshold: balancer.panic_threshold.share(),
    })
}

fn algorithm(balancer: &LoadBalancer) -> Result<Option<Algorithm>, Invalid> {
    let at = |name: &str| format!("spec.loadBalancer.{name}");
    let LoadBalancer {
        algorithm,
        peak_ewma,
        consistent_hash,
        ..
    } = balancer;
    if peak_ewma.is_some() && !matches!(algorithm, None | Some(Name::PeakEwma)) {
        let reason = "does not go with this algorithm; remove it, or write algorithm: PeakEwma";
        return Err(Invalid::new(at("peakEwma"), reason));
    }
    if consistent_hash.is_some() && !matches!(algorithm, Some(Name::RingHash | Name::Maglev)) {
        let reason =
            "does not go with this algorithm; remove it, or write algorithm: RingHash or Maglev";
        return Err(Invalid::new(at("consistentHash"), reason));
    }
    let hash = || {
        consistent_hash.as_ref().ok_or_else(|| {
            let reason =
                "is missing; write the header, cookie, queryParameter or sourceAddress to go by";
            Invalid::new(at("consistentHash"), reason)
        })
    };
    Ok(Some(match algorithm {
        None if peak_ewma.is_none() => return Ok(None),
        None | Some(Name::PeakEwma) => match peak_ewma {
            None => Algorithm::PEAK_EWMA,
            Some(settings) => Algorithm::PeakEwma {
                decay: settings.decay.get(),
                default_rtt: settings.default_rtt.get(),
            },
        },
        Some(Name::LeastRequest) => Algorithm::LeastRequest,
        Some(Name::RoundRobin) => Algorithm::RoundRobin,
        Some(Name::WeightedRoundRobin) => Algorithm::WeightedRoundRobin,
        Some(Name::Random) => Algorithm::Random,
        Some(Name::RingHash) => ring(hash()?)?,
        Some(Name::Maglev) => maglev(hash()?)?,
    }))
}

const HASH: &str = "spec.loadBalancer.consistentHash";

fn ring(item: &ConsistentHash) -> Result<Algorithm, Invalid> {
    let field = format!("{HASH}.maximumRingSize");
    if item.maximum_ring_size < item.minimum_ring_size {
        let reason = format!(
            "{} is less than minimumRingSize; write {} or more",
            item.maximum_ring_size, item.minimum_ring_size
        );
        return Err(Invalid::new(field, reason));
    }
    Ok(Algorithm::RingHash {
        hash: hash(item)?,
        minimum_size: count(&format!("{HASH}.minimumRingSize"), item.minimum_ring_size)?,
        maximum_size: count(&field, item.maximum_ring_size)?,
    })
}

fn maglev(item: &ConsistentHash) -> Result<Algorithm, Invalid> {
    let field = format!("{HASH}.tableSize");
    if !is_prime(item.table_size) {
        let reason = format!(
            "{} is not a prime, and some endpoints would get no share; write one such as 65537",
            item.table_size
        );
        return Err(Invalid::new(field, reason));
    }
    Ok(Algorithm::Maglev {
        hash: hash(item)?,
        table_size: count(&field, item.table_size)?,
    })
}

fn hash(item: &ConsistentHash) -> Result<policy::ConsistentHash, Invalid> {
    let mut keys = Vec::new();
    if let Some(name) = &item.header {
        keys.push(HashKey::Header(header_name(
            &format!("{HASH}.header"),
            name,
        )?));
    }
    if let Some(cookie) = &item.cookie {
        if cookie.ttl.is_none() && cookie.path.is_some() {
            let reason = "is that of a cookie that is given, and none is without ttl; write ttl, or remove path";
            return Err(Invalid::new(format!("{HASH}.cookie.path"), reason));
        }
        keys.push(HashKey::Cookie {
            name: cookie.name.as_str().into(),
            ttl: cookie.ttl.map(Duration::get),
            path: cookie.path.as_deref().map(Into::into),
        });
    }
    if let Some(name) = &item.query_parameter {
        keys.push(HashKey::QueryParameter(name.as_str().into()));
    }
    if item.source_address {
        keys.push(HashKey::SourceAddress);
    }
    let count = keys.len();
    match keys.pop() {
        Some(key) if count == 1 => Ok(policy::ConsistentHash {
            key,
            bounded_load: item.bounded_load.and_then(NonZeroU32::new),
        }),
        _ => {
            let reason = format!(
                "names {count} things to go by; write one of header, cookie, queryParameter and sourceAddress"
            );
            Err(Invalid::new(HASH, reason))
        }
    }
}

fn is_prime(number: u32) -> bool {
    let divides = |divisor: u32| number.is_multiple_of(divisor);
    number >= 2
        && !(2..)
            .take_while(|divisor| divisor * divisor <= number)
            .any(divides)
}

pub(super) fn connections(connections: Connections) -> Result<policy::Connections, Invalid> {
    let at = |name: &str| format!("spec.connections.{name}");
    let http2 = connections.http2;
    // The schema keeps sizes within 31 bits.
    let bytes =
        |size: Option<Bytes>| size.and_then(|Bytes(size)| NonZeroU32::new(size.try_into().ok()?));
    let limit =
        |name: &str, number: Option<u32>| number.map(|number| count(&at(name), number)).transpose();
    Ok(policy::Connections {
        maximum: limit("max", connections.max)?,
        pending: limit("maxPending", connections.max_pending)?,
        requests: limit("maxRequests", connections.max_requests)?,
        connect_timeout: connections.connect_timeout.map(Duration::get),
        transport: Transport {
            requests_per_connection: limit(
                "maxRequestsPerConnection",
                connections.max_requests_per_connection,
            )?,
            idle_timeout: connections.idle_timeout.map(Duration::get),
            tcp_keepalive: connections.tcp_keepalive.map(tcp_keepalive).transpose()?,
            http2: Http2 {
                concurrent_streams: limit(
                    "http2.maxConcurrentStreams",
                    http2.max_concurrent_streams,
                )?,
                stream_window: bytes(http2.initial_stream_window),
                connection_window: bytes(http2.initial_connection_window),
            },
        },
    })
}

fn tcp_keepalive(keepalive: TcpKeepalive) -> Result<policy::TcpKeepalive, Invalid> {
    let at = |name: &str| format!("spec.connections.tcpKeepalive.{name}");
    let seconds = |name: &str, duration: Duration| match duration.get() {
        whole if whole.subsec_nanos() == 0 => Ok(whole),
        _ => {
            let reason = format!("{duration} is not a whole number of seconds; write 10s");
            Err(Invalid::new(at(name), reason))
        }
    };
    Ok(policy::TcpKeepalive {
        time: seconds("time", keepalive.time)?,
        interval: seconds("interval", keepalive.interval)?,
        probes: count(&at("probes"), keepalive.probes)?,
    })
}

/// Where a policy names neither way to eject.
const CONSECUTIVE_FAILURES: u32 = 5;
/// Where a policy does not say.
const MAX_OPEN_FOR: std::time::Duration = std::time::Duration::from_secs(5 * 60);

pub(super) fn breaker(breaker: CircuitBreaker) -> Result<Breaker, Invalid> {
    let at = |name: &str| format!("spec.circuitBreaker.{name}");
    let consecutive = breaker.consecutive_failures.or(breaker
        .failure_ratio
        .is_none()
        .then_some(CONSECUTIVE_FAILURES));
    let open_for = breaker.open_for.get();
    let max_open_for = breaker
        .max_open_for
        .map_or(MAX_OPEN_FOR.max(open_for), Duration::get);
    if max_open_for < open_for {
        let reason = format!("is less than openFor; write {} or more", breaker.open_for);
        return Err(Invalid::new(at("maxOpenFor"), reason));
    }
    Ok(Breaker {
        consecutive_failures: consecutive
            .map(|number| count(&at("consecutiveFailures"), number))
            .transpose()?,
        failure_ratio: breaker.failure_ratio.map(failure_ratio).transpose()?,
        failures: failures(breaker.failures)?,
        open_for,
        max_open_for,
        jitter: breaker.jitter.get(),
        half_open_requests: count(&at("halfOpenRequests"), breaker.half_open_requests)?,
        max_ejected: breaker.max_ejected_percent.share(),
    })
}

fn failure_ratio(ratio: FailureRatio) -> Result<policy::FailureRatio, Invalid> {
    let field = "spec.circuitBreaker.failureRatio.minimumRequests";
    Ok(policy::FailureRatio {
        ratio: api::share(ratio.ratio),
        minimum_requests: count(field, ratio.minimum_requests)?,
        window: ratio.window.get(),
    })
}

fn failures(failures: Failures) -> Result<policy::Failures, Invalid> {
    let Failures {
        connect_errors,
        server_errors,
        statuses,
        grpc_codes,
        slower_than,
    } = failures;
    let anything = connect_errors || server_errors || slower_than.is_some();
    if !anything && statuses.is_empty() && grpc_codes.is_empty() {
        let reason = "leave nothing that counts, so that no endpoint is ever ejected; let something count, or remove circuitBreaker";
        return Err(Invalid::new("spec.circuitBreaker.failures", reason));
    }
    Ok(policy::Failures {
        connect_errors,
        server_errors,
        statuses: statuses.into_iter().collect(),
        grpc_codes: grpc_codes.into_iter().map(grpc_code).collect(),
        slower_than: slower_than.map(Duration::get),
    })
}

pub(super) fn grpc_code(code: GrpcCode) -> policy::GrpcCode {
    match code {
        GrpcCode::Cancelled => policy::GrpcCode::CANCELLED,
        GrpcCode::Unknown => policy::GrpcCode::UNKNOWN,
        GrpcCode::InvalidArgument => policy::GrpcCode::INVALID_ARGUMENT,
        GrpcCode::DeadlineExceeded => policy::GrpcCode::DEADLINE_EXCEEDED,
        GrpcCode::NotFound => policy::GrpcCode::NOT_FOUND,
        GrpcCode::AlreadyExists => policy::GrpcCode::ALREADY_EXISTS,
        GrpcCode::PermissionDenied => policy::GrpcCode::PERMISSION_DENIED,
        GrpcCode::ResourceExhausted => policy::GrpcCode::RESOURCE_EXHAUSTED,
        GrpcCode::FailedPrecondition => policy::GrpcCode::FAILED_PRECONDITION,
        GrpcCode::Aborted => policy::GrpcCode::ABORTED,
        GrpcCode::OutOfRange => policy::GrpcCode::OUT_OF_RANGE,
        GrpcCode::Unimplemented => policy::GrpcCode::UNIMPLEMENTED,
        GrpcCode::Internal => policy::GrpcCode::INTERNAL,
        GrpcCode::Unavailable => policy::GrpcCode::UNAVAILABLE,
        GrpcCode::DataLoss => policy::GrpcCode::DATA_LOSS,
        GrpcCode::Unauthenticated => policy::GrpcCode::UNAUTHENTICATED,
    }
}

/// Exact to a thousandth; the schema bounds it.
pub(super) fn factor(number: f64) -> Factor {
    Factor::from_thousandths((number * 1e3).round() as u32)
}
