//! Ports that no other process takes, also while their server is down.

use std::{
    collections::hash_map::RandomState,
    fs,
    hash::BuildHasher,
    net::{Ipv4Addr, TcpListener},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
};

use anyhow::{Result, ensure};

/// A loopback port that this process holds until the value is dropped.
///
/// A test kills a server and starts it again on the same port. Meanwhile another testkit process must not choose
/// that port: the claim is an abstract Unix socket, which the kernel frees however the process ends, and which
/// leaves no file. No outgoing connection may get the port as its local end either: ports come from below the
/// kernel's ephemeral range.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _claim: UnixListener,
}

impl Port {
    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// Whether a listener could be opened now; `false` after a failed start means that another process took the port.
    pub(crate) fn is_free(&self) -> bool {
        TcpListener::bind((Ipv4Addr::LOCALHOST, self.number)).is_ok()
    }
}

/// Claims `count` ports at random; every one is held open until all are found.
pub(crate) fn claim(count: usize) -> Result<Vec<Port>> {
    let range = below_ephemeral();
    let width = u64::from(range.end - range.start);
    let mut ports = Vec::with_capacity(count);
    let mut held = Vec::with_capacity(count);
    for attempt in 0_u64..2_000 {
        if ports.len() == count {
            return Ok(ports);
        }
        // A fresh `RandomState` is a random number without a dependency.
        let offset = RandomState::new().hash_one(attempt) % width;
        let number = range.start + u16::try_from(offset).expect("the offset is below a u16 width");
        let Ok(claim) = SocketAddr::from_abstract_name(format!("testkit-port-{number}"))
            .and_then(|name| UnixListener::bind_addr(&name))
        else {
            continue;
        };
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, number)) {
            held.push(listener);
            ports.push(Port { number, _claim: claim });
        }
    }
    ensure!(ports.len() == count, "no {count} free ports in {range:?}");
    Ok(ports)
}

fn below_ephemeral() -> std::ops::Range<u16> {
    let low = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .unwrap_or(32_768);
    if low >= 14_000 { 10_000..low } else { 61_000..65_500 }
}

#[cfg(test)]
mod tests {
    use super::claim;

    #[test]
    fn claimed_ports_are_free_and_differ() {
        let ports = claim(50).expect("there are free ports");
        let mut numbers: Vec<_> = ports.iter().map(super::Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 50);
        assert!(ports.iter().all(super::Port::is_free));
    }
}
