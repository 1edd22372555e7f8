//! Links, addresses and routes, through rtnetlink.

use std::{fs, net::IpAddr, os::fd::AsRawFd};

use futures_util::TryStreamExt;
use rtnetlink::{
    Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
    packet_route::{
        address::{AddressAttribute, AddressFlags},
        link::{InfoData, InfoVeth},
    },
};

use super::{Namespace, SandboxError};

/// An address with the length of its network's prefix.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prefixed(pub(super) IpAddr, pub(super) u8);

/// The name of a pod's link, inside the pod.
pub(super) const POD_LINK: &str = "eth0";
const BRIDGE: &str = "node0";

/// Makes a namespace a node: a bridge that has the gateway addresses.
pub(super) fn set_up_node(node: &Namespace, gateways: [Prefixed; 2]) -> Result<(), SandboxError> {
    configure(node, "set up the node's bridge", async move |handle| {
        set_up(&handle, "lo").await?;
        handle
            .link()
            .add(LinkBridge::new(BRIDGE).build())
            .execute()
            .await?;
        add_addresses(&handle, BRIDGE, gateways).await
    })?;
    // A node that forwards answers "no route" for an address that nobody has, instead of letting the caller wait.
    // Where /proc/sys is read-only (some containers), callers wait: nothing else depends on it.
    node.enter(|| {
        for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            if let Err(error) = fs::write(format!("/proc/sys/net/{setting}"), "1") {
                tracing::debug!(setting, %error, "the node does not forward");
            }
        }
    });
    Ok(())
}

/// Links a pod's namespace to the node's bridge and routes everything through the gateways.
pub(super) fn set_up_pod(
    node: &Namespace,
    pod: &Namespace,
    node_link: &str,
    addresses: [Prefixed; 2],
    gateways: [Prefixed; 2],
) -> Result<(), SandboxError> {
    let node_end = LinkMessageBuilder::<LinkUnspec>::new()
        .name(node_link)
        .setns_by_fd(rustix::fd::AsFd::as_fd(node).as_raw_fd())
        .build();
    configure(pod, "link a pod to its node", async move |handle| {
        set_up(&handle, "lo").await?;
        handle
            .link()
            .add(
                LinkMessageBuilder::<LinkVeth>::new(POD_LINK, "")
                    .set_info_data(InfoData::Veth(InfoVeth::Peer(node_end)))
                    .build(),
            )
            .execute()
            .await
    })?;
    let name = node_link.to_owned();
    configure(node, "attach a pod to the bridge", async move |handle| {
        let bridge = index(&handle, BRIDGE).await?;
        let attached = LinkUnspec::new_with_name(&name)
            .controller(bridge)
            .up()
            .build();
        handle.link().set(attached).execute().await
    })?;
    configure(pod, "address a pod", async move |handle| {
        add_addresses(&handle, POD_LINK, addresses).await?;
        set_up(&handle, POD_LINK).await?;
        for Prefixed(gateway, _) in gateways {
            let route = match gateway {
                IpAddr::V4(gateway) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
                    .gateway(gateway)
                    .build(),
                IpAddr::V6(gateway) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
                    .gateway(gateway)
                    .build(),
            };
            handle.route().add(route).execute().await?;
        }
        Ok(())
    })
}

/// Takes a link down or up again, as pulling its cable would.
pub(super) fn switch(namespace: &Namespace, name: &str, up: bool) -> Result<(), SandboxError> {
    let link = LinkUnspec::new_with_name(name);
    let link = if up { link.up() } else { link.down() };
    configure(namespace, "switch a link", async move |handle| {
        handle.link().set(link.build()).execute().await
    })
}

fn configure(
    namespace: &Namespace,
    action: &str,
    change: impl AsyncFnOnce(Handle) -> Result<(), rtnetlink::Error> + Send + 'static,
) -> Result<(), SandboxError> {
    // A thread of its own, joined: callers may or may not be on a runtime.
    namespace.enter(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| SandboxError::new(action, error))?
            .block_on(async {
                let (connection, handle, _) = rtnetlink::new_connection()
                    .map_err(|error| SandboxError::new(action, error))?;
                tokio::spawn(connection);
                change(handle)
                    .await
                    .map_err(|error| SandboxError::new(action, error))
            })
    })
}

async fn set_up(handle: &Handle, link: &str) -> Result<(), rtnetlink::Error> {
    let up = LinkUnspec::new_with_name(link).up().build();
    handle.link().set(up).execute().await
}

async fn add_addresses(
    handle: &Handle,
    link: &str,
    addresses: [Prefixed; 2],
) -> Result<(), rtnetlink::Error> {
    let index = index(handle, link).await?;
    for Prefixed(address, prefix) in addresses {
        let mut request = handle.address().add(index, address, prefix);
        if address.is_ipv6() {
            // Without this the address is tentative, hence unusable, for a second or more (RFC 4862 section 5.4).
            request
                .message_mut()
                .attributes
                .push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        request.execute().await?;
    }
    Ok(())
}

async fn index(handle: &Handle, link: &str) -> Result<u32, rtnetlink::Error> {
    let found = handle
        .link()
        .get()
        .match_name(link.to_owned())
        .execute()
        .try_next()
        .await?;
    Ok(found
        .expect("the kernel answers a query by name with the link or an error")
        .header
        .index)
}
