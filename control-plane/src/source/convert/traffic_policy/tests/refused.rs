use super::outcome;
use crate::source::convert::{Invalid, Verdict};

fn refusal(spec: &str) -> (String, String) {
    match outcome("", spec).verdict {
        Verdict::Refused {
            invalid: Invalid { field, reason },
            instead: None,
        } => (field, reason),
        other => panic!("{spec}: {other:?}"),
    }
}

#[test]
fn a_value_out_of_range_is_refused_by_field_with_the_range() {
    let target = "targetRefs: [{kind: Service, name: user}]";
    let cases = [
        (
            "loadBalancer: {panicThreshold: 101}",
            "loadBalancer.panicThreshold",
            "101 is out of range; write 0 to 100",
        ),
        (
            "loadBalancer: {algorithm: Fastest}",
            "loadBalancer.algorithm",
            "\"Fastest\" does not fit; write PeakEwma, LeastRequest, RoundRobin, WeightedRoundRobin, Random, RingHash or Maglev",
        ),
        (
            "loadBalancer: {zone: prefer}",
            "loadBalancer.zone",
            "\"prefer\" does not fit; write Off, Prefer or Strict",
        ),
        (
            "loadBalancer: {peakEwma: {decay: 0s}}",
            "loadBalancer.peakEwma.decay",
            "\"0s\" is out of range; write 1ms to 1h",
        ),
        (
            "loadBalancer: {peakEwma: {defaultRtt: 2h}}",
            "loadBalancer.peakEwma.defaultRtt",
            "\"2h\" is out of range; write 1ms to 1h",
        ),
        (
            "loadBalancer: {slowStart: {window: 0s}}",
            "loadBalancer.slowStart.window",
            "\"0s\" is out of range; write 1ms to 24h",
        ),
        (
            "loadBalancer: {slowStart: {aggression: 0}}",
            "loadBalancer.slowStart.aggression",
            "0 is out of range; write 0.001 to 100",
        ),
        (
            "loadBalancer: {slowStart: {minimumPercent: -1}}",
            "loadBalancer.slowStart.minimumPercent",
            "-1 is out of range; write 0 to 100",
        ),
        (
            "loadBalancer: {algorithm: RingHash, consistentHash: {header: x, minimumRingSize: 0}}",
            "loadBalancer.consistentHash.minimumRingSize",
            "0 is out of range; write 1 to 8388608",
        ),
        (
            "loadBalancer: {algorithm: RingHash, consistentHash: {header: x, maximumRingSize: 9000000}}",
            "loadBalancer.consistentHash.maximumRingSize",
            "9000000 is out of range; write 1 to 8388608",
        ),
        (
            "loadBalancer: {algorithm: Maglev, consistentHash: {header: x, tableSize: 1}}",
            "loadBalancer.consistentHash.tableSize",
            "1 is out of range; write 2 to 5000011",
        ),
        (
            "loadBalancer: {algorithm: Maglev, consistentHash: {header: x, boundedLoad: 100}}",
            "loadBalancer.consistentHash.boundedLoad",
            "100 is out of range; write 101 to 10000",
        ),
        (
            "loadBalancer: {algorithm: Maglev, consistentHash: {cookie: {name: 'a b'}}}",
            "loadBalancer.consistentHash.cookie.name",
            "\"a b\" does not fit; write a name of letters, digits and dashes",
        ),
        (
            "loadBalancer: {algorithm: Maglev, consistentHash: {cookie: {}}}",
            "loadBalancer.consistentHash.cookie.name",
            "is missing; write a name of letters, digits and dashes",
        ),
        (
            "connections: {max: 0}",
            "connections.max",
            "0 is out of range; write 1 to 4294967295",
        ),
        (
            "connections: {maxPending: -5}",
            "connections.maxPending",
            "-5 is out of range; write 1 to 4294967295",
        ),
        (
            "connections: {maxRequests: 5000000000}",
            "connections.maxRequests",
            "5000000000 is out of range; write 1 to 4294967295",
        ),
        (
            "connections: {maxRequests: many}",
            "connections.maxRequests",
            "\"many\" does not fit; write a whole number, 1 to 4294967295",
        ),
        (
            "connections: {connectTimeout: 0s}",
            "connections.connectTimeout",
            "\"0s\" is out of range; write 1ms to 1h",
        ),
        (
            "connections: {connectTimeout: 5}",
            "connections.connectTimeout",
            "5 does not fit; write numbers with units h, m, s or ms, such as 15s or 1m30s",
        ),
        (
            "connections: {idleTimeout: 1.5s}",
            "connections.idleTimeout",
            "\"1.5s\" does not fit; write numbers with units h, m, s or ms, such as 15s or 1m30s",
        ),
        (
            "connections: {tcpKeepalive: {time: 1500ms}}",
            "connections.tcpKeepalive.time",
            "1s500ms is not a whole number of seconds; write 10s",
        ),
        (
            "connections: {tcpKeepalive: {probes: 128}}",
            "connections.tcpKeepalive.probes",
            "128 is out of range; write 1 to 127",
        ),
        (
            "connections: {http2: {initialStreamWindow: 1Ki}}",
            "connections.http2.initialStreamWindow",
            "\"1Ki\" is out of range; write 65535 to 2147483647",
        ),
        (
            "connections: {http2: {initialConnectionWindow: 64KB}}",
            "connections.http2.initialConnectionWindow",
            "\"64KB\" does not fit; write a number of bytes, such as 64Ki",
        ),
        (
            "connections: {http2: {maxConcurrentStreams: 0}}",
            "connections.http2.maxConcurrentStreams",
            "0 is out of range; write 1 to 2147483647",
        ),
        (
            "circuitBreaker: {consecutiveFailures: 0}",
            "circuitBreaker.consecutiveFailures",
            "0 is out of range; write 1 to 4294967295",
        ),
        (
            "circuitBreaker: {failureRatio: {ratio: 60}}",
            "circuitBreaker.failureRatio.ratio",
            "60 is out of range; write 0.000001 to 1",
        ),
        (
            "circuitBreaker: {failureRatio: {window: 10s}}",
            "circuitBreaker.failureRatio.ratio",
            "is missing; write a number, 0.000001 to 1",
        ),
        (
            "circuitBreaker: {failureRatio: {ratio: 0.5, window: 1ms}}",
            "circuitBreaker.failureRatio.window",
            "\"1ms\" is out of range; write 100ms to 1h",
        ),
        (
            "circuitBreaker: {failures: {statuses: [600]}}",
            "circuitBreaker.failures.statuses[0]",
            "600 is out of range; write 100 to 599",
        ),
        (
            "circuitBreaker: {openFor: 0s}",
            "circuitBreaker.openFor",
            "\"0s\" is out of range; write 1ms or more",
        ),
        (
            "circuitBreaker: {halfOpenRequests: 0}",
            "circuitBreaker.halfOpenRequests",
            "0 is out of range; write 1 to 1000",
        ),
        (
            "circuitBreaker: {maxEjectedPercent: 200}",
            "circuitBreaker.maxEjectedPercent",
            "200 is out of range; write 0 to 100",
        ),
        (
            "retry: {attempts: 0}",
            "retry.attempts",
            "0 is out of range; write 1 to 100",
        ),
        (
            "retry: {on: []}",
            "retry.on",
            "is empty; write one at least, or leave it out",
        ),
        (
            "retry: {on: [always]}",
            "retry.on[0]",
            "\"always\" does not fit; write connect-failure, refused-stream, reset-before-request, reset, 5xx, gateway-error, retriable-4xx, cancelled, deadline-exceeded, internal, resource-exhausted, unavailable, or a status of 400 to 599",
        ),
        (
            "retry: {backoff: {base: 0s}}",
            "retry.backoff.base",
            "\"0s\" is out of range; write 1ms or more",
        ),
        (
            "retry: {backoff: {multiplier: 0.5}}",
            "retry.backoff.multiplier",
            "0.5 is out of range; write 1 to 10",
        ),
        (
            "retry: {budget: {percent: 101}}",
            "retry.budget.percent",
            "101 is out of range; write 0 to 100",
        ),
        (
            "retry: {bodyLimit: 1Gi}",
            "retry.bodyLimit",
            "\"1Gi\" is out of range; write 64Mi or less",
        ),
        (
            "retry: {hedge: {}}",
            "retry.hedge.delay",
            "is missing; write numbers with units h, m, s or ms, such as 15s or 1m30s",
        ),
        (
            "retry: {perTryTimeout: 0s}",
            "retry.perTryTimeout",
            "\"0s\" is out of range; write 1ms or more",
        ),
        (
            "timeout: {request: soon}",
            "timeout.request",
            "\"soon\" does not fit; write numbers with units h, m, s or ms, such as 15s or 1m30s",
        ),
        (
            "rateLimit: {}",
            "rateLimit.requests",
            "is missing; write a whole number, 1 to 1000000000",
        ),
        (
            "rateLimit: {requests: 0}",
            "rateLimit.requests",
            "0 is out of range; write 1 to 1000000000",
        ),
        (
            "rateLimit: {requests: 1, per: 0s}",
            "rateLimit.per",
            "\"0s\" is out of range; write 1ms to 24h",
        ),
        (
            "rateLimit: {requests: 1, burst: 0}",
            "rateLimit.burst",
            "0 is out of range; write 1 to 1000000000",
        ),
        (
            "rateLimit: {requests: 1, by: [Cookie]}",
            "rateLimit.by[0]",
            "\"Cookie\" does not fit; write Identity, SourceAddress, or {header: <name>}",
        ),
        (
            "rateLimit: {requests: 1, maximumKeys: 0}",
            "rateLimit.maximumKeys",
            "0 is out of range; write 1 to 1000000",
        ),
        (
            "concurrencyLimit: {maximum: 0}",
            "concurrencyLimit.maximum",
            "0 is out of range; write 1 to 1000000",
        ),
        (
            "concurrencyLimit: {adaptive: {minimum: 0}}",
            "concurrencyLimit.adaptive.minimum",
            "0 is out of range; write 1 to 1000000",
        ),
        (
            "fault: {delay: {duration: 2h}}",
            "fault.delay.duration",
            "\"2h\" is out of range; write 1ms to 1h",
        ),
        (
            "fault: {delay: {percent: 10}}",
            "fault.delay.duration",
            "is missing; write numbers with units h, m, s or ms, such as 15s or 1m30s",
        ),
        (
            "fault: {abort: {status: 199}}",
            "fault.abort.status",
            "199 is out of range; write 200 to 599",
        ),
        (
            "mirror: {backendRef: {name: a, port: 0}}",
            "mirror.backendRef.port",
            "0 is out of range; write 1 to 65535",
        ),
        (
            "mirror: {percent: 10}",
            "mirror.backendRef",
            "is missing; write fields below it",
        ),
        (
            "retries: {}",
            "retries",
            "is not a field here; write one of circuitBreaker, concurrencyLimit, connections, fault, loadBalancer, mirror, rateLimit, retry, targetRefs, timeout",
        ),
    ];
    let found = cases.map(|(spec, ..)| {
        let (field, reason) = refusal(&format!("{target}\n{spec}"));
        format!("{spec}: {field}: {reason}")
    });
    let expected = cases.map(|(spec, field, reason)| format!("{spec}: spec.{field}: {reason}"));
    assert_eq!(found.join("\n"), expected.join("\n"));
}

#[test]
fn what_contradicts_itself_is_refused_with_the_way_out() {
    let service = "targetRefs: [{kind: Service, name: user}]";
    let route = "targetRefs: [{kind: Service, name: user}, {kind: HTTPRoute, name: r}]";
    for (targets, spec, field, reason) in [
        (
            "targetRefs: []",
            "",
            "targetRefs",
            "is empty; write one at least",
        ),
        ("{}", "", "targetRefs", "is missing; write a list"),
        (
            "targetRefs: [{kind: Gateway, name: g}]",
            "",
            "targetRefs[0].kind",
            "\"Gateway\" does not fit; write Service, HTTPRoute or GRPCRoute",
        ),
        (
            "targetRefs: [{kind: Service}]",
            "",
            "targetRefs[0].name",
            "is missing",
        ),
        (
            "targetRefs: [{kind: HTTPRoute, group: '', name: r}]",
            "",
            "targetRefs[0].group",
            "write \"gateway.networking.k8s.io\"",
        ),
        (
            "targetRefs: [{kind: Service, name: a.b}]",
            "",
            "targetRefs[0].name",
            "RFC 1123",
        ),
        (
            "targetRefs: [{kind: Service, name: a, sectionName: '0'}]",
            "",
            "targetRefs[0].sectionName",
            "0 is not a port",
        ),
        (
            "targetRefs: [{kind: Service, name: a}, {kind: Service, name: a}]",
            "",
            "targetRefs[1]",
            "the same as spec.targetRefs[0]; remove one",
        ),
        (
            route,
            "loadBalancer: {}",
            "loadBalancer",
            "spec.targetRefs[1] is a route; write it in a policy for the service",
        ),
        (
            route,
            "connections: {}",
            "connections",
            "spec.targetRefs[1] is a route",
        ),
        (
            route,
            "circuitBreaker: {}",
            "circuitBreaker",
            "spec.targetRefs[1] is a route",
        ),
        (
            route,
            "retry: {budget: {}}",
            "retry.budget",
            "spec.targetRefs[1] is a route",
        ),
        (
            service,
            "loadBalancer: {algorithm: Maglev}",
            "loadBalancer.consistentHash",
            "is missing",
        ),
        (
            service,
            "loadBalancer: {algorithm: Maglev, consistentHash: {}}",
            "loadBalancer.consistentHash",
            "names 0 things",
        ),
        (
            service,
            "loadBalancer: {algorithm: Maglev, consistentHash: {header: a, sourceAddress: true}}",
            "loadBalancer.consistentHash",
            "names 2 things",
        ),
        (
            service,
            "loadBalancer: {algorithm: Maglev, consistentHash: {header: 'a b'}}",
            "loadBalancer.consistentHash.header",
            "not the name of a header",
        ),
        (
            service,
            "loadBalancer: {algorithm: Maglev, consistentHash: {header: a, tableSize: 65536}}",
            "loadBalancer.consistentHash.tableSize",
            "is not a prime",
        ),
        (
            service,
            "loadBalancer: {algorithm: RingHash, consistentHash: {header: a, minimumRingSize: 10, maximumRingSize: 9}}",
            "loadBalancer.consistentHash.maximumRingSize",
            "write 10 or more",
        ),
        (
            service,
            "loadBalancer: {algorithm: RingHash, consistentHash: {cookie: {name: a, path: /}}}",
            "loadBalancer.consistentHash.cookie.path",
            "write ttl",
        ),
        (
            service,
            "loadBalancer: {consistentHash: {header: a}}",
            "loadBalancer.consistentHash",
            "write algorithm: RingHash or Maglev",
        ),
        (
            service,
            "loadBalancer: {algorithm: Random, peakEwma: {}}",
            "loadBalancer.peakEwma",
            "write algorithm: PeakEwma",
        ),
        (
            service,
            "loadBalancer: {algorithm: Random, slowStart: {}}",
            "loadBalancer.slowStart",
            "does not go with",
        ),
        (
            service,
            "circuitBreaker: {openFor: 1m, maxOpenFor: 30s}",
            "circuitBreaker.maxOpenFor",
            "write 1m or more",
        ),
        (
            service,
            "circuitBreaker: {failures: {connectErrors: false, serverErrors: false, grpcCodes: []}}",
            "circuitBreaker.failures",
            "leave nothing that counts",
        ),
        (
            service,
            "retry: {backoff: {base: 1s, max: 500ms}}",
            "retry.backoff.max",
            "write 1s or more",
        ),
        (
            service,
            "retry: {attempts: 1, hedge: {delay: 1s}}",
            "retry.hedge",
            "write attempts of 2 or more",
        ),
        (
            service,
            "retry: {perTryTimeout: 5s}\ntimeout: {request: 3s}",
            "retry.perTryTimeout",
            "write no more than timeout.request",
        ),
        (
            service,
            "retry: {methods: [get]}",
            "retry.methods[0]",
            "does not fit",
        ),
        (
            service,
            "rateLimit: {requests: 1, by: [Identity, Identity]}",
            "rateLimit.by[1]",
            "stands there before",
        ),
        (
            service,
            "rateLimit: {requests: 1, by: [{header: 'a b'}]}",
            "rateLimit.by[0].header",
            "not the name of a header",
        ),
        (
            service,
            "concurrencyLimit: {}",
            "concurrencyLimit",
            "write maximum or adaptive",
        ),
        (
            service,
            "concurrencyLimit: {maximum: 1, adaptive: {}}",
            "concurrencyLimit.adaptive",
            "remove one of them",
        ),
        (
            service,
            "concurrencyLimit: {adaptive: {minimum: 10, maximum: 5}}",
            "concurrencyLimit.adaptive.maximum",
            "write 10 or more",
        ),
        (service, "fault: {}", "fault", "write delay or abort"),
        (
            service,
            "fault: {abort: {}}",
            "fault.abort",
            "write status or grpcStatus",
        ),
        (
            service,
            "fault: {abort: {status: 503, grpcStatus: INTERNAL}}",
            "fault.abort.grpcStatus",
            "remove one of them",
        ),
        (
            service,
            "fault: {abort: {status: 503}, headers: [{name: A, value: b}, {name: a, value: c}]}",
            "fault.headers[1].name",
            "stands there before",
        ),
        (
            service,
            "mirror: {backendRef: {name: a.b, port: 80}}",
            "mirror.backendRef.name",
            "RFC 1123",
        ),
    ] {
        let (found_field, found_reason) = refusal(&format!("{targets}\n{spec}"));
        assert_eq!(
            found_field,
            format!("spec.{field}"),
            "{spec}: {found_reason}"
        );
        assert!(found_reason.contains(reason), "{spec}: {found_reason}");
    }
}
