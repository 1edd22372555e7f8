//! Why interception could not be set up or taken away, with what to do about it.

use std::io;

use super::{
    encode::Step,
    rules::{MAX_ENTRIES, TABLE},
    verify::Difference,
};

/// Why `weft-proxy init` failed. Nothing was changed then, unless the error says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The process may not program nftables.
    #[error(
        "programming nftables needs the capability NET_ADMIN in this network namespace, and this process does \
         not have it: give the init container `securityContext: {{runAsUser: 0, runAsNonRoot: false, \
         capabilities: {{add: [NET_ADMIN]}}}}`, or run the proxy in explicit mode, which needs no interception"
    )]
    MissingCapability,
    /// The kernel lacks something that interception needs.
    #[error(
        "the kernel has no {what} ({option}): load the module on the node (`modprobe {module}`), use a kernel \
         that has it, or run the proxy in explicit mode, which needs no interception"
    )]
    MissingKernelFeature {
        /// What it is for people.
        what: &'static str,
        /// The option of the kernel's configuration.
        option: &'static str,
        /// The module that provides it.
        module: &'static str,
    },
    /// `--ipv6 on`, and the kernel has no IPv6.
    #[error(
        "--ipv6 on: this kernel has no IPv6: use --ipv6 auto, which intercepts IPv6 where there is any"
    )]
    NoIpv6,
    /// More ports and subnets than one message to the kernel holds.
    #[error(
        "{entries} ports and subnets are listed, and at most {MAX_ENTRIES} are possible: join neighbours into \
         ranges (8000-8999) and larger subnets"
    )]
    TooManyEntries {
        /// How many are listed, over all flags.
        entries: usize,
    },
    /// The kernel refused a step for a reason that is not explained better above.
    #[error("the kernel refused {step}: {source}")]
    Refused {
        /// What was to be done.
        step: Step,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The socket to the kernel failed.
    #[error("{action}: {source}")]
    Socket {
        /// What was being done.
        action: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// The kernel's answer could not be read.
    #[error(
        "the kernel answered with a message that breaks netlink's format; please report it with the kernel's version"
    )]
    MalformedReply,
    /// The kernel holds something else than was just written.
    #[error(
        "table inet {TABLE} is not as it was written: {0}; another program changes it at the same time: find \
         it with `nft monitor`, then run init again"
    )]
    NotAsWritten(#[from] Difference),
}

impl InitError {
    /// What the kernel's refusal of a step means.
    pub(super) fn refused(step: Step, errno: i32) -> Self {
        if matches!(errno, libc::EPERM | libc::EACCES) {
            return Self::MissingCapability;
        }
        let absent = matches!(
            errno,
            libc::ENOENT | libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT
        );
        match step {
            Step::Begin | Step::AddTable | Step::List if absent => Self::MissingKernelFeature {
                what: "nftables for the inet family",
                option: "CONFIG_NF_TABLES_INET",
                module: "nf_tables",
            },
            Step::AddChain(_) if absent => Self::MissingKernelFeature {
                what: "NAT chains for nftables",
                option: "CONFIG_NFT_NAT",
                module: "nft_chain_nat",
            },
            Step::AddRule {
                redirects: true, ..
            } if absent => Self::MissingKernelFeature {
                what: "redirect rules for nftables",
                option: "CONFIG_NFT_REDIR",
                module: "nft_redir",
            },
            step => Self::Refused {
                step,
                source: io::Error::from_raw_os_error(errno),
            },
        }
    }

    /// A failed call on the socket.
    pub(super) fn socket(action: &'static str) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |errno| match errno {
            rustix::io::Errno::PERM | rustix::io::Errno::ACCESS => Self::MissingCapability,
            rustix::io::Errno::PROTONOSUPPORT => Self::MissingKernelFeature {
                what: "netlink interface to netfilter",
                option: "CONFIG_NETFILTER_NETLINK",
                module: "nfnetlink",
            },
            errno => Self::Socket {
                action,
                source: errno.into(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_what_is_missing_and_how_to_get_it() {
        let redirect = || Step::AddRule {
            chain: "output",
            rule: "meta l4proto tcp redirect to :15001".to_owned(),
            redirects: true,
        };
        let messages = [
            InitError::refused(Step::Begin, libc::EPERM),
            InitError::refused(Step::AddTable, libc::EOPNOTSUPP),
            InitError::refused(Step::AddChain("output"), libc::ENOENT),
            InitError::refused(redirect(), libc::ENOENT),
            InitError::refused(redirect(), libc::ENOMEM),
        ]
        .map(|error| error.to_string());
        for (message, part) in messages.iter().zip([
            "capabilities: {add: [NET_ADMIN]}",
            "modprobe nf_tables",
            "modprobe nft_chain_nat",
            "modprobe nft_redir",
            "rule `meta l4proto tcp redirect to :15001` in chain output: Cannot allocate memory",
        ]) {
            assert!(message.contains(part), "{message:?} lacks {part:?}");
        }
    }
}
