use super::*;
use hickory_resolver::{
    config::{ConnectionConfig, NameServerConfig},
    proto::{
        op::{Message, MessageType, OpCode, ResponseCode},
        rr::{RData, Record, RecordType, rdata::A},
    },
};
use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};
use tokio::net::UdpSocket;

/// What a name server answers: addresses with a TTL in seconds, or an error.
type Script = Arc<Mutex<Result<(Vec<Ipv4Addr>, u32), ResponseCode>>>;

/// A name server on loopback that says of every name what its script says.
async fn server(script: Script) -> ResolverConfig {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            let question = Message::from_vec(&buffer[..length]).unwrap();
            let query = question.queries[0].clone();
            let mut answer = Message::new(question.id, MessageType::Response, OpCode::Query);
            answer.add_query(query.clone());
            match &*script.lock().unwrap() {
                Ok((addresses, ttl)) if query.query_type() == RecordType::A => {
                    for address in addresses {
                        let name = query.name().clone();
                        answer.add_answer(Record::from_rdata(name, *ttl, RData::A(A(*address))));
                    }
                }
                Ok(_) => {}
                Err(code) => answer.metadata.response_code = *code,
            }
            socket
                .send_to(&answer.to_vec().unwrap(), peer)
                .await
                .unwrap();
        }
    });
    let mut connection = ConnectionConfig::udp();
    connection.port = port;
    let server = NameServerConfig::new(Ipv4Addr::LOCALHOST.into(), true, vec![connection]);
    ResolverConfig::from_parts(None, Vec::new(), vec![server])
}

fn host() -> Host {
    Host {
        name: "db.example.".into(),
        port: 5432,
        family: Family::V4Preferred,
    }
}

async fn next(dns: &mut Dns) -> Vec<SocketAddr> {
    let next = tokio::time::timeout(Duration::from_secs(20), dns.next());
    let answer = next.await.expect("DNS answers");
    assert_eq!(answer.host, host());
    answer
        .endpoints
        .iter()
        .map(|endpoint| endpoint.address)
        .collect()
}

fn following(servers: ResolverConfig) -> Dns {
    let mut dns = Dns::new(Some(servers));
    dns.follow(&[host()].into());
    dns
}

#[tokio::test]
async fn a_host_is_asked_for_again_when_its_answer_is_out_of_date() {
    let first = Ipv4Addr::new(192, 0, 2, 1);
    let second = Ipv4Addr::new(192, 0, 2, 2);
    let script: Script = Arc::new(Mutex::new(Ok((vec![second, first], 1))));
    let mut dns = following(server(script.clone()).await);
    let at = |ip: Ipv4Addr| SocketAddr::new(ip.into(), 5432);
    assert_eq!(next(&mut dns).await, [at(first), at(second)]);
    *script.lock().unwrap() = Ok((vec![second], 300));
    assert_eq!(next(&mut dns).await, [at(second)]);
}

#[tokio::test]
async fn a_host_that_does_not_exist_has_no_endpoint() {
    let script: Script = Arc::new(Mutex::new(Err(ResponseCode::NXDomain)));
    let mut dns = following(server(script).await);
    assert_eq!(next(&mut dns).await, []);
}

#[tokio::test]
async fn a_failing_name_server_takes_nothing_away() {
    let address = Ipv4Addr::new(192, 0, 2, 1);
    let script: Script = Arc::new(Mutex::new(Ok((vec![address], 1))));
    let mut dns = following(server(script.clone()).await);
    let known = [SocketAddr::new(address.into(), 5432)];
    assert_eq!(next(&mut dns).await, known);
    *script.lock().unwrap() = Err(ResponseCode::ServFail);
    let silence = tokio::time::timeout(TTL.start().mul_f64(1.5), dns.next()).await;
    assert!(silence.is_err(), "a failure changed something: {silence:?}");
    *script.lock().unwrap() = Ok((vec![address], 300));
    assert_eq!(next(&mut dns).await, known);
}

#[tokio::test]
async fn whoever_waits_for_a_first_answer_is_told_that_there_is_none() {
    let script: Script = Arc::new(Mutex::new(Err(ResponseCode::ServFail)));
    let mut dns = following(server(script).await);
    assert_eq!(next(&mut dns).await, []);
}
