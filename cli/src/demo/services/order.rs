//! `order`: each order asks `user` over HTTP, and `product` over gRPC twice, unary and streaming.

use anyhow::Context;
use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tonic::{client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;

use super::{
    caller::Caller,
    catalog::{GET_PRODUCT, GetProductRequest, LIST_RELATED, ListRelatedRequest, Product},
    user::User,
};

const RELATED: u32 = 3;

/// The services behind this one.
#[derive(Debug, Clone)]
pub(super) struct Callers {
    user: Caller,
    product: Channel,
}

impl Callers {
    pub(super) fn from_environment() -> anyhow::Result<Self> {
        Ok(Self {
            user: Caller::from_environment("USER")?,
            product: Caller::from_environment("PRODUCT")?.grpc(),
        })
    }
}

#[derive(Debug, Deserialize)]
struct NewOrder {
    user: u64,
    product: u64,
}

#[derive(Debug, Serialize)]
struct Order {
    buyer: String,
    product: String,
    price_cents: u64,
    related: Vec<String>,
}

pub(super) fn router(callers: Callers) -> Router {
    Router::new()
        .route("/orders", post(create_order))
        .with_state(callers)
}

async fn create_order(
    State(callers): State<Callers>,
    Json(new): Json<NewOrder>,
) -> Result<Json<Order>, (StatusCode, String)> {
    place(&callers, &new)
        .await
        .map(Json)
        .map_err(|error| (StatusCode::BAD_GATEWAY, format!("{error:#}")))
}

async fn place(callers: &Callers, new: &NewOrder) -> anyhow::Result<Order> {
    let path = format!("/users/{}", new.user);
    let user = callers
        .user
        .http(http::Method::GET, &path, Bytes::new())
        .await
        .context("user")?;
    let user: User = serde_json::from_slice(&user).context("user")?;
    let product = get_product(&callers.product, new.product)
        .await
        .context("product")?;
    let related = list_related(&callers.product, new.product)
        .await
        .context("related products")?;
    anyhow::ensure!(
        related.len() == RELATED as usize,
        "related products: {} of {RELATED} came",
        related.len()
    );
    Ok(Order {
        buyer: user.name,
        product: product.name,
        price_cents: product.price_cents,
        related: related.into_iter().map(|product| product.name).collect(),
    })
}

async fn get_product(channel: &Channel, id: u64) -> anyhow::Result<Product> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await?;
    let response = grpc
        .unary(
            tonic::Request::new(GetProductRequest { id }),
            PathAndQuery::from_static(GET_PRODUCT),
            ProstCodec::default(),
        )
        .await?;
    Ok(response.into_inner())
}

async fn list_related(channel: &Channel, id: u64) -> anyhow::Result<Vec<Product>> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await?;
    let mut stream = grpc
        .server_streaming(
            tonic::Request::new(ListRelatedRequest { id, limit: RELATED }),
            PathAndQuery::from_static(LIST_RELATED),
            ProstCodec::default(),
        )
        .await?
        .into_inner();
    let mut products = Vec::new();
    while let Some(product) = stream.message().await? {
        products.push(product);
    }
    Ok(products)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[tokio::test]
    async fn an_order_asks_the_user_over_http_and_the_product_over_grpc() {
        let user = spawn(super::super::user::router()).await;
        let product = spawn(super::super::product::router()).await;
        let callers = Callers {
            user: Caller::new(&user.to_string(), None).unwrap(),
            // As in explicit mode: the authority is not what is dialled.
            product: Caller::new("product.demo:9090", Some(&product.to_string()))
                .unwrap()
                .grpc(),
        };
        let order = spawn(router(callers)).await;
        let body = Caller::new("order.demo:80", Some(&order.to_string()))
            .unwrap()
            .http(
                http::Method::POST,
                "/orders",
                Bytes::from_static(br#"{"user":1,"product":2}"#),
            )
            .await
            .unwrap();
        let order: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            order,
            serde_json::json!({
                "buyer": "Grace",
                "product": "bobbin",
                "price_cents": 502,
                "related": ["reed", "treadle", "shuttle"],
            })
        );
    }

    #[tokio::test]
    async fn an_order_says_which_call_failed() {
        let nobody = "127.0.0.1:1";
        let callers = Callers {
            user: Caller::new(nobody, None).unwrap(),
            product: Caller::new(nobody, None).unwrap().grpc(),
        };
        let error = place(
            &callers,
            &NewOrder {
                user: 1,
                product: 2,
            },
        )
        .await
        .unwrap_err();
        assert_eq!(error.to_string(), "user");
    }

    async fn spawn(router: Router) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }
}
