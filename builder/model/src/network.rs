//! IPv4 networks in CIDR notation (RFC 4632).

use std::{fmt, net::Ipv4Addr, str::FromStr};

/// A network such as `10.77.0.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ipv4Network {
    address: Ipv4Addr,
    prefix: u8,
}

impl Ipv4Network {
    /// The network's own address.
    #[must_use]
    pub const fn address(self) -> Ipv4Addr {
        self.address
    }

    /// Length of the prefix in bits, 0 to 32.
    #[must_use]
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    const fn mask(prefix: u8) -> u32 {
        if prefix == 0 {
            0
        } else {
            u32::MAX << (32 - prefix)
        }
    }

    /// Whether a host can have that address: inside, and neither the network's nor the broadcast address.
    #[must_use]
    pub fn has_host(self, address: Ipv4Addr) -> bool {
        let mask = Self::mask(self.prefix);
        let (net, ip) = (u32::from(self.address), u32::from(address));
        ip & mask == net && (self.prefix > 30 || (ip != net && ip != net | !mask))
    }

    /// RFC 1918 or RFC 6598 (shared address space), so not routed on the internet.
    #[must_use]
    pub fn is_private(self) -> bool {
        let [a, b, ..] = self.address.octets();
        self.address.is_private() || (a == 100 && (64..128).contains(&b))
    }
}

impl FromStr for Ipv4Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, prefix) = text
            .split_once('/')
            .ok_or("it has no prefix length; write it as 10.77.0.0/24")?;
        let address: Ipv4Addr = address
            .parse()
            .map_err(|_| format!("{address:?} is not an IPv4 address"))?;
        let prefix: u8 = prefix
            .parse()
            .ok()
            .filter(|p| *p <= 32)
            .ok_or_else(|| format!("{prefix:?} is not a prefix length from 0 to 32"))?;
        let net = Ipv4Addr::from(u32::from(address) & Self::mask(prefix));
        if net != address {
            return Err(format!(
                "{address} has bits set behind the prefix; the network is {net}/{prefix}"
            ));
        }
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Ipv4Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_contains() {
        let net: Ipv4Network = "10.77.0.0/24".parse().unwrap();
        assert!(net.has_host("10.77.0.1".parse().unwrap()));
        assert!(!net.has_host("10.77.0.0".parse().unwrap()));
        assert!(!net.has_host("10.77.0.255".parse().unwrap()));
        assert!(!net.has_host("10.78.0.1".parse().unwrap()));
        assert!(net.is_private());
        for bad in ["10.77.0.0", "10.77.0.1/24", "10.77.0.0/33", "x/24"] {
            assert!(bad.parse::<Ipv4Network>().is_err(), "{bad}");
        }
    }
}
