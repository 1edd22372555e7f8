//! The catalog on the wire: gRPC service `weft.demo.v1.Catalog`, small enough to be written by hand.
//!
//! ```proto
//! service Catalog {
//!   rpc GetProduct(GetProductRequest) returns (Product);
//!   rpc ListRelated(ListRelatedRequest) returns (stream Product);
//! }
//! ```
//!
//! Beside it the one call of `grpc.health.v1.Health` that kubelets make.

/// The path of `GetProduct`.
pub(super) const GET_PRODUCT: &str = "/weft.demo.v1.Catalog/GetProduct";
/// The path of `ListRelated`.
pub(super) const LIST_RELATED: &str = "/weft.demo.v1.Catalog/ListRelated";

/// The path of `grpc.health.v1.Health/Check`.
pub(super) const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";
/// `grpc.health.v1.HealthCheckResponse.ServingStatus`.
pub(super) const SERVING: i32 = 1;

/// Asks for one product.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GetProductRequest {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
}

/// Asks for products that go with another.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ListRelatedRequest {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(uint32, tag = "2")]
    pub(super) limit: u32,
}

/// A product.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Product {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(uint64, tag = "3")]
    pub(super) price_cents: u64,
}

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    pub(super) service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    pub(super) status: i32,
}
