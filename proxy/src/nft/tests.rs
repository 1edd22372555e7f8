//! The rules in a real kernel, each test in network namespaces of its own. They need root, of a user
//! namespace at least, and are shown as skipped without.

use std::{
    future::Future,
    io::Write,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    process::{Command, Stdio},
};

use rtnetlink::{
    Handle, LinkUnspec, LinkVeth, RouteMessageBuilder, packet_route::address::AddressHeaderFlags,
};
use rustix::{
    fs::{Mode, OFlags},
    process::Uid,
    thread::{CapabilitySet, LinkNameSpaceType, UnshareFlags},
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    runtime,
};

use super::{
    InitError,
    netlink::Nftables,
    rules::{Interception, everything},
};
use crate::net::{
    listen,
    original_dst::{Intercepted, OriginalDestination},
};

const POD: [&str; 2] = ["10.77.0.2", "fd77::2"];
const WORLD: [&str; 2] = ["10.77.0.1", "fd77::1"];
/// Addresses of services: they belong to the world, the pod has no route to them but the default one.
const SERVICES: [&str; 2] = ["10.96.3.4", "fd00:96::4"];

/// A pod with a link to the rest of the world. The test's thread is in either, and starts in the pod.
struct Lab {
    pod: OwnedFd,
    world: OwnedFd,
}

/// Runs a test on a thread that is in network namespaces of its own, or shows why it cannot.
fn in_a_pod<F: Future<Output = ()>>(test: impl FnOnce(Lab) -> F + Send + 'static) {
    let run = move || {
        if let Err(errno) = leave_namespace() {
            return skip(&format!(
                "needs CAP_SYS_ADMIN for a network namespace ({errno})"
            ));
        }
        runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(async { test(Lab::build().await).await });
    };
    if let Err(panic) = std::thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

/// libtest has no way to skip a test that has begun.
fn skip(reason: &str) {
    assert!(
        std::env::var("WEFT_TEST_REQUIRE").as_deref() != Ok("all"),
        "WEFT_TEST_REQUIRE=all, and this test {reason}"
    );
    writeln!(std::io::stderr(), "skipped: {reason}").unwrap();
}

impl Lab {
    async fn build() -> Self {
        let world = this_namespace();
        let (in_world, peers) = links().await;
        in_world
            .link()
            .add(LinkVeth::new("world0", "pod0").build())
            .execute()
            .await
            .unwrap();
        leave_namespace().unwrap();
        let pod = this_namespace();
        let (in_pod, pod_peers) = links().await;
        in_world
            .link()
            .set(
                LinkUnspec::new_with_name("pod0")
                    .setns_by_fd(pod.as_raw_fd())
                    .build(),
            )
            .execute()
            .await
            .unwrap();
        for (handle, name, addresses) in [
            (&in_world, "world0", [WORLD, SERVICES].concat()),
            (&in_pod, "pod0", POD.to_vec()),
        ] {
            raise(handle, "lo").await;
            let index = raise(handle, name).await;
            for address in addresses {
                add_address(handle, index, address.parse().unwrap()).await;
            }
        }
        for gateway in WORLD {
            let route = match gateway.parse().unwrap() {
                IpAddr::V4(gateway) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
                    .gateway(gateway)
                    .build(),
                IpAddr::V6(gateway) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
                    .gateway(gateway)
                    .build(),
            };
            in_pod.route().add(route).execute().await.unwrap();
        }
        peers.abort();
        pod_peers.abort();
        Self { pod, world }
    }

    /// Does something, such as making a socket, in the world.
    fn in_world<T>(&self, action: impl FnOnce() -> T) -> T {
        enter(&self.world);
        let done = action();
        enter(&self.pod);
        done
    }
}

/// Moves this thread into a new network namespace.
fn leave_namespace() -> rustix::io::Result<()> {
    // SAFETY: only sharing of file descriptors would be unsafe to end, and it goes on.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
}

fn this_namespace() -> OwnedFd {
    rustix::fs::open(
        "/proc/thread-self/ns/net",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .unwrap()
}

fn enter(namespace: &OwnedFd) {
    let network = Some(LinkNameSpaceType::Network);
    rustix::thread::move_into_link_name_space(namespace.as_fd(), network).unwrap();
}

async fn links() -> (Handle, tokio::task::JoinHandle<()>) {
    let (connection, handle, _) = rtnetlink::new_connection().unwrap();
    (handle, tokio::spawn(connection))
}

/// Sets an interface up, and returns its number.
async fn raise(handle: &Handle, name: &str) -> u32 {
    let up = LinkUnspec::new_with_name(name).up().build();
    handle.link().set(up).execute().await.unwrap();
    // Interfaces are looked up in the namespace of the thread; the handle may be of another.
    let mut found = handle.link().get().match_name(name.to_owned()).execute();
    let link = futures_util::TryStreamExt::try_next(&mut found)
        .await
        .unwrap();
    link.unwrap().header.index
}

async fn add_address(handle: &Handle, index: u32, address: IpAddr) {
    let prefix = if address.is_ipv4() { 24 } else { 64 };
    let mut request = handle.address().add(index, address, prefix);
    // Without a neighbour there is no duplicate, and looking for one takes a second.
    request.message_mut().header.flags = AddressHeaderFlags::Nodad;
    request.execute().await.unwrap();
}

fn install(interception: &Interception) {
    let ruleset = interception.ruleset().unwrap();
    Nftables::open().unwrap().install(&ruleset).unwrap();
}

fn listener(address: &str) -> TcpListener {
    let listener = listen::single("--test", address.parse().unwrap()).unwrap();
    TcpListener::from_std(listener).unwrap()
}

/// Dials, and tells where the connection arrived and where it wanted to go.
async fn arrival(client: TcpSocket, to: SocketAddr, at: &TcpListener) -> SocketAddr {
    let (connected, accepted) = tokio::join!(client.connect(to), at.accept());
    let _connected: TcpStream = connected.unwrap();
    Intercepted.of(&accepted.unwrap().0).unwrap()
}

fn socket_for(address: SocketAddr) -> TcpSocket {
    match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }
    .unwrap()
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

#[test]
fn outbound_connections_come_to_the_proxy_with_their_destination() {
    in_a_pod(async |_lab| {
        install(&Interception::default());
        let proxy = listener("[::]:15001");
        for service in SERVICES {
            let wanted = at(service, 80);
            let arrived = arrival(socket_for(wanted), wanted, &proxy).await;
            assert_eq!(arrived, wanted);
        }
    });
}

#[test]
fn inbound_connections_come_to_the_proxy_with_their_destination() {
    in_a_pod(async |lab| {
        install(&Interception::default());
        let proxy = listener("[::]:15006");
        for pod in POD {
            let wanted = at(pod, 8080);
            let client = lab.in_world(|| socket_for(wanted));
            assert_eq!(arrival(client, wanted, &proxy).await, wanted);
        }
    });
}

#[test]
fn the_proxys_own_ports_are_reached_directly() {
    in_a_pod(async |lab| {
        install(&Interception::default());
        let health = listener("[::]:15021");
        for pod in POD {
            let wanted = at(pod, 15021);
            let client = lab.in_world(|| socket_for(wanted));
            assert_eq!(arrival(client, wanted, &health).await, wanted);
        }
    });
}

#[test]
fn the_proxy_itself_reaches_the_world() {
    in_a_pod(async |lab| {
        install(&Interception {
            proxy_gid: Some(4242),
            ..Interception::default()
        });
        let service = lab.in_world(|| listener("[::]:80"));
        for address in SERVICES {
            let wanted = at(address, 80);
            let client = as_user(1337, || socket_for(wanted));
            assert_eq!(arrival(client, wanted, &service).await, wanted);
            let client = as_group(4242, || socket_for(wanted));
            assert_eq!(arrival(client, wanted, &service).await, wanted);
        }
    });
}

#[test]
fn calls_within_the_pod_stay_there() {
    in_a_pod(async |_lab| {
        install(&Interception::default());
        let application = listener("[::]:8080");
        for address in ["127.0.0.1", "127.8.8.8", "::1", POD[0], POD[1]] {
            let wanted = at(address, 8080);
            let arrived = arrival(socket_for(wanted), wanted, &application).await;
            assert_eq!(arrived, wanted);
        }
    });
}

#[test]
fn skipped_ports_and_subnets_are_left_alone() {
    in_a_pod(async |lab| {
        install(&Interception {
            skip_outbound_ports: vec!["80-90".parse().unwrap()],
            skip_outbound_subnets: vec![
                "10.77.0.0/16".parse().unwrap(),
                "fd77::/16".parse().unwrap(),
            ],
            include_inbound_ports: vec!["8080".parse().unwrap()],
            ..Interception::default()
        });
        let (first, last, beyond) = lab.in_world(|| {
            (
                listener("[::]:80"),
                listener("[::]:90"),
                listener("[::]:91"),
            )
        });
        let proxy = listener("[::]:15001");
        for (address, port, listener) in [
            (SERVICES[0], 80, &first),
            (SERVICES[1], 90, &last),
            (SERVICES[0], 91, &proxy),
            (SERVICES[1], 79, &proxy),
            (WORLD[0], 91, &beyond),
            (WORLD[1], 91, &beyond),
        ] {
            let wanted = at(address, port);
            let arrived = arrival(socket_for(wanted), wanted, listener).await;
            assert_eq!(arrived, wanted);
        }

        let (inbound, other) = (listener("[::]:15006"), listener("[::]:8081"));
        for (port, listener) in [(8080, &inbound), (8081, &other)] {
            let wanted = at(POD[0], port);
            let client = lab.in_world(|| socket_for(wanted));
            assert_eq!(arrival(client, wanted, listener).await, wanted);
        }
    });
}

#[test]
fn ipv6_passes_by_when_it_is_off() {
    in_a_pod(async |lab| {
        install(&Interception {
            ipv6: false,
            ..Interception::default()
        });
        let (proxy, service) = (listener("[::]:15001"), lab.in_world(|| listener("[::]:80")));
        for (address, listener) in [(SERVICES[0], &proxy), (SERVICES[1], &service)] {
            let wanted = at(address, 80);
            let arrived = arrival(socket_for(wanted), wanted, listener).await;
            assert_eq!(arrived, wanted);
        }
    });
}

#[test]
fn init_replaces_what_it_wrote_before_and_remove_takes_only_that() {
    in_a_pod(async |lab| {
        let mut nftables = Nftables::open().unwrap();
        assert!(!nftables.remove().unwrap(), "there is no table yet");
        install(&everything());
        install(&Interception::default());
        install(&Interception::default());
        assert!(nftables.remove().unwrap());
        assert!(!nftables.remove().unwrap());
        let service = lab.in_world(|| listener("[::]:80"));
        let wanted = at(SERVICES[0], 80);
        assert_eq!(arrival(socket_for(wanted), wanted, &service).await, wanted);
    });
}

#[test]
fn nft_reads_the_rules_as_the_dry_run_shows_them() {
    if Command::new("nft").arg("--version").output().is_err() {
        return skip("needs the program nft");
    }
    for interception in [Interception::default(), everything()] {
        in_a_pod(async move |lab| {
            nft(&["add", "table", "inet", "other"], "");
            install(&interception);
            let ours = nft(&["list", "ruleset"], "");
            lab.in_world(|| {
                nft(&["add", "table", "inet", "other"], "");
                let script = interception.ruleset().unwrap().to_string();
                nft(&["-f", "-"], &script);
                assert_eq!(nft(&["list", "ruleset"], ""), ours);
            });
            assert!(Nftables::open().unwrap().remove().unwrap());
            assert_eq!(nft(&["list", "tables"], ""), "table inet other\n");
        });
    }
}

#[test]
fn without_the_capability_init_says_which_and_how_to_get_it() {
    in_a_pod(async |_lab| {
        let mut sets = rustix::thread::capabilities(None).unwrap();
        sets.effective.remove(CapabilitySet::NET_ADMIN);
        rustix::thread::set_capabilities(None, sets).unwrap();
        let ruleset = Interception::default().ruleset().unwrap();
        let refused = Nftables::open().and_then(|mut nftables| nftables.install(&ruleset));
        assert!(
            matches!(refused, Err(InitError::MissingCapability)),
            "{refused:?}"
        );
    });
}

#[test]
fn root_of_a_user_namespace_is_root_enough() {
    const INSIDE: &str = "WEFT_TEST_IN_USER_NAMESPACE";
    if std::env::var_os(INSIDE).is_some() {
        install(&Interception::default());
        assert!(Nftables::open().unwrap().remove().unwrap());
        return;
    }
    // A process with threads cannot enter a user namespace: this test starts itself again in one.
    let child = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "nft::tests::root_of_a_user_namespace_is_root_enough",
        ])
        .env(INSIDE, "1")
        .output();
    match child {
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("unshare failed") => {
            skip("needs user namespaces");
        }
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(error) => skip(&format!("needs the program unshare ({error})")),
    }
}

fn nft(args: &[&str], script: &str) -> String {
    let mut child = Command::new("nft")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "nft {args:?} failed");
    String::from_utf8(output.stdout).unwrap()
}

/// Does something as another user. Only this thread changes, and it changes back.
fn as_user<T>(uid: u32, action: impl FnOnce() -> T) -> T {
    let become_user =
        |uid| rustix::thread::set_thread_res_uid(None, Some(Uid::from_raw(uid)), None);
    become_user(uid).unwrap();
    let done = action();
    become_user(0).unwrap();
    done
}

/// Does something as another group. Only this thread changes, and it changes back.
fn as_group<T>(gid: u32, action: impl FnOnce() -> T) -> T {
    let join = |gid| {
        rustix::thread::set_thread_res_gid(None, Some(rustix::process::Gid::from_raw(gid)), None)
    };
    join(gid).unwrap();
    let done = action();
    join(0).unwrap();
    done
}
