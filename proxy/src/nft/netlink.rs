//! The socket to the kernel: sends batches, lists what is there.

use std::{os::fd::OwnedFd, time::Duration};

use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, sockopt},
};

use super::{
    InitError, decode,
    encode::{self, Batch, Step},
    rules::Ruleset,
    verify::{self, Difference},
    wire::{error_number, next_message},
};

/// What the kernel puts into one datagram at most (`NLMSG_GOODSIZE` and what it grows to for listings).
const DATAGRAM: usize = 64 * 1024;

/// The kernel answers before `send` returns: an answer that takes this long never comes.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a listing is begun anew when somebody changes nftables meanwhile.
const ATTEMPTS: usize = 5;

/// `linux/netlink.h`: the listing was interrupted by a change.
const NLM_F_DUMP_INTR: u16 = 0x10;

/// A connection to nf_tables of the network namespace in which it was opened.
pub(super) struct Nftables {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Nftables {
    pub(super) fn open() -> Result<Self, InitError> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::NETFILTER),
        )
        .map_err(InitError::socket("opening a netlink socket"))?;
        rustix::net::bind(&socket, &netlink::SocketAddrNetlink::new(0, 0))
            .map_err(InitError::socket("binding the netlink socket"))?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))
            .map_err(InitError::socket("limiting the wait on the netlink socket"))?;
        Ok(Self {
            socket,
            buffer: vec![0; DATAGRAM],
        })
    }

    /// Writes the ruleset in the place of what the table holds, reads it back, and compares.
    pub(super) fn install(&mut self, ruleset: &Ruleset) -> Result<(), InitError> {
        self.carry_out(&Batch::replace(ruleset))?;
        let chains = self.list(libc::NFT_MSG_GETCHAIN, decode::chain)?;
        let rules = self.list(libc::NFT_MSG_GETRULE, decode::rule)?;
        verify::same(ruleset, &chains, &rules)?;
        Ok(())
    }

    /// Removes the table and makes sure that it is gone. Returns whether there was one.
    pub(super) fn remove(&mut self) -> Result<bool, InitError> {
        if !self.has_table()? {
            return Ok(false);
        }
        self.carry_out(&Batch::remove())?;
        if self.has_table()? {
            return Err(Difference::NotRemoved.into());
        }
        Ok(true)
    }

    fn has_table(&mut self) -> Result<bool, InitError> {
        let ours = self.list(libc::NFT_MSG_GETTABLE, |body| {
            Ok(decode::is_our_table(body)?.then_some(()))
        })?;
        Ok(!ours.is_empty())
    }

    /// Sends a batch and waits until all of it is done. The first error is the one that matters: those after
    /// it may be its consequences.
    fn carry_out(&mut self, batch: &Batch) -> Result<(), InitError> {
        self.send(&batch.bytes)?;
        loop {
            let mut datagram = self.receive()?;
            while !datagram.is_empty() {
                let (header, body) = next_message(&mut datagram)?;
                if i32::from(header.kind) != libc::NLMSG_ERROR {
                    continue;
                }
                let index = usize::try_from(header.sequence).unwrap_or(usize::MAX);
                match error_number(body)? {
                    0 if index == batch.last_change() => return Ok(()),
                    0 => {}
                    errno => {
                        let step = batch.steps.get(index).cloned().unwrap_or(Step::Commit);
                        return Err(InitError::refused(step, errno));
                    }
                }
            }
        }
    }

    /// Lists what `select` takes of all there is of a kind.
    fn list<T>(
        &mut self,
        message: libc::c_int,
        select: impl Fn(&[u8]) -> Result<Option<T>, InitError>,
    ) -> Result<Vec<T>, InitError> {
        for _ in 0..ATTEMPTS {
            if let Some(listed) = self.list_once(message, &select)? {
                return Ok(listed);
            }
        }
        Err(InitError::refused(Step::List, libc::EINTR))
    }

    /// `None` when somebody changed nftables meanwhile, so that the list may be of two minds.
    fn list_once<T>(
        &mut self,
        message: libc::c_int,
        select: impl Fn(&[u8]) -> Result<Option<T>, InitError>,
    ) -> Result<Option<Vec<T>>, InitError> {
        self.send(&encode::dump(message))?;
        let mut listed = Vec::new();
        let mut interrupted = false;
        loop {
            let mut datagram = self.receive()?;
            while !datagram.is_empty() {
                let (header, body) = next_message(&mut datagram)?;
                interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
                match i32::from(header.kind) {
                    libc::NLMSG_DONE => return Ok((!interrupted).then_some(listed)),
                    libc::NLMSG_ERROR => {
                        return Err(InitError::refused(Step::List, error_number(body)?));
                    }
                    _ => listed.extend(select(body)?),
                }
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<(), InitError> {
        rustix::net::send(&self.socket, bytes, SendFlags::empty())
            .map_err(InitError::socket("sending to nftables"))?;
        Ok(())
    }

    fn receive(&mut self) -> Result<&[u8], InitError> {
        loop {
            match rustix::net::recv(&self.socket, &mut self.buffer[..], RecvFlags::TRUNC) {
                Ok((_, length)) => {
                    return self.buffer.get(..length).ok_or(InitError::MalformedReply);
                }
                Err(Errno::INTR) => {}
                Err(errno) => {
                    return Err(InitError::socket("reading the answer of nftables")(errno));
                }
            }
        }
    }
}
