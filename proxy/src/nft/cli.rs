//! `weft-proxy init`: sets up interception in the network namespace it runs in, or takes it away.

use std::{
    io::{self, Write},
    net::IpAddr,
    num::NonZeroU16,
    process::ExitCode,
};

use clap::ValueEnum;
use ipnet::IpNet;
use weft_xds_proto::names;

use super::{
    InitError,
    netlink::Nftables,
    rules::{Interception, PortRange},
};
use crate::net::listen;

/// The flags of `weft-proxy init`.
///
/// Rules are set up in table `inet weft` of this network namespace. Running it again replaces the rules in one step. Needs the capability NET_ADMIN.
#[derive(Debug, clap::Args)]
pub struct InitArgs {
    /// Take interception away: remove table `inet weft` and nothing else.
    #[arg(long)]
    remove: bool,

    /// Print the rules as a script for `nft -f` and change nothing.
    #[arg(long, conflicts_with = "remove")]
    dry_run: bool,

    /// User id of the proxy. Its connections are not intercepted.
    #[arg(long, value_name = "UID", default_value_t = names::PROXY_UID)]
    proxy_uid: u32,

    /// Group id whose connections are not intercepted either.
    #[arg(long, value_name = "GID")]
    proxy_gid: Option<u32>,

    /// Port on which the proxy takes outbound connections.
    #[arg(long, value_name = "PORT", default_value = OUTBOUND_PORT)]
    outbound_port: NonZeroU16,

    /// Port on which the proxy takes inbound connections.
    #[arg(long, value_name = "PORT", default_value = INBOUND_PORT)]
    inbound_port: NonZeroU16,

    /// Destination ports to leave alone, such as 3306,8000-8999.
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    skip_outbound_ports: Vec<PortRange>,

    /// Destination addresses to leave alone, such as 10.0.0.0/8,fd00::/8,192.0.2.1.
    #[arg(long, value_name = "SUBNETS", value_delimiter = ',', value_parser = subnet)]
    skip_outbound_subnets: Vec<IpNet>,

    /// Ports of the application to leave alone. The proxy's own 15000, 15020 and 15021 always are.
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    skip_inbound_ports: Vec<PortRange>,

    /// Intercept inbound connections to these ports only [default: all ports].
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    include_inbound_ports: Vec<PortRange>,

    /// Whether to intercept IPv6 as well.
    #[arg(long, value_enum, default_value_t = Ipv6::Auto)]
    ipv6: Ipv6,
}

const OUTBOUND_PORT: &str = "15001";
const INBOUND_PORT: &str = "15006";

/// Whether IPv6 is intercepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Ipv6 {
    /// If the kernel has it.
    Auto,
    /// Yes; it is an error if the kernel has none.
    On,
    /// No: IPv6 connections pass by the proxy.
    Off,
}

/// Does what the arguments say, and tells on standard output what was done, on standard error what failed.
pub fn run(args: InitArgs) -> ExitCode {
    match act(args) {
        Ok(done) => {
            // Whether anybody reads it changes nothing about what was done.
            let _ = writeln!(io::stdout(), "{}", done.trim_end());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "weft-proxy init: {error}");
            ExitCode::FAILURE
        }
    }
}

fn act(args: InitArgs) -> Result<String, InitError> {
    if args.remove {
        return Ok(match Nftables::open()?.remove()? {
            true => "interception removed: table inet weft is gone".to_owned(),
            false => "nothing to remove: there is no table inet weft".to_owned(),
        });
    }
    let dry_run = args.dry_run;
    let interception = args.interception(listen::kernel_has_ipv6())?;
    let ruleset = interception.ruleset()?;
    if dry_run {
        return Ok(ruleset.to_string());
    }
    Nftables::open()?.install(&ruleset)?;
    let rules: usize = ruleset.chains.iter().map(|chain| chain.rules.len()).sum();
    let protocols = if interception.ipv6 {
        "IPv4 and IPv6"
    } else {
        "IPv4 only"
    };
    Ok(format!(
        "interception set up: {rules} rules in table inet weft, written and read back, for {protocols}"
    ))
}

impl InitArgs {
    fn interception(self, kernel_has_ipv6: bool) -> Result<Interception, InitError> {
        let ipv6 = match self.ipv6 {
            Ipv6::On if !kernel_has_ipv6 => return Err(InitError::NoIpv6),
            Ipv6::On => true,
            Ipv6::Auto => kernel_has_ipv6,
            Ipv6::Off => false,
        };
        Ok(Interception {
            proxy_uid: self.proxy_uid,
            proxy_gid: self.proxy_gid,
            outbound_port: self.outbound_port,
            inbound_port: self.inbound_port,
            skip_outbound_ports: self.skip_outbound_ports,
            skip_outbound_subnets: self.skip_outbound_subnets,
            skip_inbound_ports: self.skip_inbound_ports,
            include_inbound_ports: self.include_inbound_ports,
            ipv6,
        })
    }
}

/// A subnet, or a single address.
fn subnet(text: &str) -> Result<IpNet, String> {
    text.parse()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| {
            format!("{text:?} is neither a subnet nor an address; expected for example 10.0.0.0/8")
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        init: InitArgs,
    }

    fn parse(args: &[&str]) -> Result<InitArgs, clap::Error> {
        Command::try_parse_from([&["init"], args].concat()).map(|command| command.init)
    }

    #[test]
    fn the_defaults_are_those_of_the_mesh() {
        let interception = parse(&[]).unwrap().interception(true).unwrap();
        assert_eq!(interception, Interception::default());
    }

    #[test]
    fn lists_are_separated_by_commas() {
        let args = parse(&[
            "--skip-outbound-ports=3306,8000-8999",
            "--skip-outbound-subnets=10.0.0.0/8,192.0.2.1,fd00::/8,2001:db8::1",
        ]);
        let interception = args.unwrap().interception(true).unwrap();
        let shown = |list: &[PortRange]| list.iter().map(PortRange::to_string).collect::<Vec<_>>();
        assert_eq!(
            shown(&interception.skip_outbound_ports),
            ["3306", "8000-8999"]
        );
        let subnets: Vec<_> = interception
            .skip_outbound_subnets
            .iter()
            .map(IpNet::to_string)
            .collect();
        assert_eq!(
            subnets,
            ["10.0.0.0/8", "192.0.2.1/32", "fd00::/8", "2001:db8::1/128"]
        );
    }

    #[test]
    fn a_mistake_names_the_flag_and_what_was_expected() {
        let message = |args: &[&str]| parse(args).unwrap_err().to_string();
        for (args, parts) in [
            (
                ["--skip-outbound-ports=80,x"],
                ["--skip-outbound-ports", "for example 3306 or 8000-8999"],
            ),
            (
                ["--skip-outbound-subnets=10.0.0.0/33"],
                ["--skip-outbound-subnets", "for example 10.0.0.0/8"],
            ),
            (["--outbound-port=0"], ["--outbound-port", "0"]),
        ] {
            let message = message(&args);
            for part in parts {
                assert!(message.contains(part), "{message:?} lacks {part:?}");
            }
        }
    }

    #[test]
    fn ipv6_follows_the_kernel_unless_told_otherwise() {
        let ipv6 = |flag: &str, kernel| {
            let args = parse(&[flag]).unwrap();
            args.interception(kernel)
                .map(|interception| interception.ipv6)
        };
        assert!(ipv6("--ipv6=auto", true).unwrap());
        assert!(!ipv6("--ipv6=auto", false).unwrap());
        assert!(ipv6("--ipv6=on", true).unwrap());
        assert!(matches!(ipv6("--ipv6=on", false), Err(InitError::NoIpv6)));
        assert!(!ipv6("--ipv6=off", true).unwrap());
    }
}
