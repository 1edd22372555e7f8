//! `product`: a catalog over gRPC, unary and server streaming, with the health service that kubelets ask.

use std::future::{Ready, ready};

use axum::{Router, extract::Request, response::Response, routing::post};
use tokio_stream::Iter;
use tonic::{
    Status,
    server::{Grpc, ServerStreamingService, UnaryService},
};
use tonic_prost::ProstCodec;

use super::catalog::{
    GET_PRODUCT, GetProductRequest, HEALTH_CHECK, HealthCheckRequest, HealthCheckResponse,
    LIST_RELATED, ListRelatedRequest, Product, SERVING,
};

const NAMES: [&str; 5] = ["shuttle", "heddle", "bobbin", "reed", "treadle"];

pub(super) fn router() -> Router {
    Router::new()
        .route(GET_PRODUCT, post(get_product))
        .route(LIST_RELATED, post(list_related))
        .route(HEALTH_CHECK, post(check))
}

async fn get_product(request: Request) -> Response {
    let mut grpc = Grpc::new(ProstCodec::default());
    grpc.unary(Catalog, request)
        .await
        .map(axum::body::Body::new)
}

async fn list_related(request: Request) -> Response {
    let mut grpc = Grpc::new(ProstCodec::default());
    grpc.server_streaming(Catalog, request)
        .await
        .map(axum::body::Body::new)
}

async fn check(request: Request) -> Response {
    let mut grpc = Grpc::new(ProstCodec::default());
    grpc.unary(Health, request).await.map(axum::body::Body::new)
}

struct Catalog;

impl UnaryService<GetProductRequest> for Catalog {
    type Response = Product;
    type Future = Ready<Result<tonic::Response<Product>, Status>>;

    fn call(&mut self, request: tonic::Request<GetProductRequest>) -> Self::Future {
        ready(Ok(tonic::Response::new(product(request.into_inner().id))))
    }
}

impl ServerStreamingService<ListRelatedRequest> for Catalog {
    type Response = Product;
    type ResponseStream = Iter<std::vec::IntoIter<Result<Product, Status>>>;
    type Future = Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<ListRelatedRequest>) -> Self::Future {
        let ListRelatedRequest { id, limit } = request.into_inner();
        let related: Vec<_> = (1..=u64::from(limit))
            .map(|step| Ok(product(id.wrapping_add(step))))
            .collect();
        ready(Ok(tonic::Response::new(tokio_stream::iter(related))))
    }
}

struct Health;

impl UnaryService<HealthCheckRequest> for Health {
    type Response = HealthCheckResponse;
    type Future = Ready<Result<tonic::Response<HealthCheckResponse>, Status>>;

    fn call(&mut self, _: tonic::Request<HealthCheckRequest>) -> Self::Future {
        ready(Ok(tonic::Response::new(HealthCheckResponse {
            status: SERVING,
        })))
    }
}

fn product(id: u64) -> Product {
    let kind = (id % NAMES.len() as u64) as usize;
    Product {
        id,
        name: NAMES[kind].to_owned(),
        price_cents: 500 + id % 1000,
    }
}
