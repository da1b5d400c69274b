//! How much, how often and how long: everything that another machine could use up.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use super::discovery::lookup;

/// Bounds of the network side. Each holds against any peer, declared or not.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Events that wait for the loop; what comes then waits in the kernel's buffers.
    pub events: usize,
    /// Requests of ours that wait for one member.
    pub queue: usize,
    /// Requests of one connection that are being answered.
    pub in_flight: usize,
    /// Requests of one connection a second; more are read later.
    pub requests: Rate,
    /// Connections of others in all, those that have not shown a certificate yet included.
    pub connections: usize,
    /// Connections of one member; a further one takes the place of the oldest.
    pub connections_of_peer: usize,
    /// New connections of one source address a second; more are closed unseen.
    pub handshakes: Rate,
    /// From the first byte to the end of the introductions.
    pub handshake: Duration,
    /// A connection of others on which nothing comes for so long is closed.
    pub idle: Duration,
    /// After how long without a word the other side is asked for a sign of life.
    pub ping: Duration,
    /// A connection of ours on which a request timed out and nothing came for so long is given up.
    pub stall: Duration,
    /// Between two attempts to connect: the first, and the longest.
    pub retry: (Duration, Duration),
    /// How often open connections are judged anew.
    pub review: Duration,
    /// After how long without a connection a member is looked for at other addresses than that of the facts.
    pub lost: Duration,
    /// Between two questions where such a member might be: the first, and the longest.
    pub discover: (Duration, Duration),
    /// The system's resolver, but for tests.
    pub lookup: fn(&str) -> io::Result<Vec<IpAddr>>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            events: 256,
            queue: 64,
            in_flight: 16,
            requests: Rate {
                each_second: 100,
                burst: 200,
            },
            // Fifty members with two each, and room for those who are still introducing themselves.
            connections: 160,
            connections_of_peer: 2,
            handshakes: Rate {
                each_second: 5,
                burst: 20,
            },
            handshake: Duration::from_secs(3),
            idle: Duration::from_secs(30),
            ping: Duration::from_secs(5),
            stall: Duration::from_millis(1500),
            retry: (Duration::from_millis(100), Duration::from_secs(1)),
            review: Duration::from_secs(60),
            lost: Duration::from_secs(30),
            discover: (Duration::from_secs(2), Duration::from_secs(60)),
            lookup,
        }
    }
}

/// So many a second on average, so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Average.
    pub each_second: u64,
    /// At once, after a pause.
    pub burst: u64,
}

/// Counts against a [`Rate`]. Time is milliseconds of any clock that does not go back.
#[derive(Debug, Clone)]
pub struct Bucket {
    rate: Rate,
    /// In thousandths.
    left: u64,
    at: u64,
}

impl Bucket {
    /// A full one.
    #[must_use]
    pub const fn new(rate: Rate, now: u64) -> Self {
        Self {
            rate,
            left: rate.burst.saturating_mul(1000),
            at: now,
        }
    }

    /// Takes one, or says after how many milliseconds there will be one.
    ///
    /// # Errors
    /// That time.
    pub const fn take(&mut self, now: u64) -> Result<(), u64> {
        let passed = now.saturating_sub(self.at);
        self.at = if now > self.at { now } else { self.at };
        let full = self.rate.burst.saturating_mul(1000);
        let filled = self
            .left
            .saturating_add(passed.saturating_mul(self.rate.each_second));
        self.left = if filled < full { filled } else { full };
        if self.left >= 1000 {
            self.left -= 1000;
            return Ok(());
        }
        let rate = if self.rate.each_second == 0 {
            1
        } else {
            self.rate.each_second
        };
        Err((1000 - self.left).div_ceil(rate))
    }
}

/// A bucket for each source address, bounded in number.
#[derive(Debug)]
pub struct Sources {
    rate: Rate,
    buckets: BTreeMap<IpAddr, Bucket>,
}

/// Addresses that are remembered. The firewall lets only the fleet's in.
const SOURCES: usize = 256;

impl Sources {
    /// None yet.
    #[must_use]
    pub const fn new(rate: Rate) -> Self {
        Self {
            rate,
            buckets: BTreeMap::new(),
        }
    }

    /// Whether a connection from that address may be looked at.
    pub fn admit(&mut self, from: IpAddr, now: u64) -> bool {
        if self.buckets.len() >= SOURCES && !self.buckets.contains_key(&from) {
            // Those that have been quiet long enough to be full again need not be remembered.
            let full = self.rate.burst.saturating_mul(1000) / self.rate.each_second.max(1);
            self.buckets
                .retain(|_, bucket| now.saturating_sub(bucket.at) < full);
            if self.buckets.len() >= SOURCES {
                return false;
            }
        }
        let bucket = self
            .buckets
            .entry(from)
            .or_insert_with(|| Bucket::new(self.rate, now));
        bucket.take(now).is_ok()
    }
}

/// Numbers that spread attempts over time; nothing secret is made of them (xorshift, Marsaglia 2003).
#[derive(Debug, Clone)]
pub struct Jitter(u64);

impl Jitter {
    /// From a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        // Zero would stay zero.
        Self(seed | 1)
    }

    /// A time from half to one and a half of this one.
    pub fn around(&mut self, time: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let thousandths = u32::try_from(500 + self.0 % 1001).unwrap_or(1000);
        time * thousandths / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATE: Rate = Rate {
        each_second: 10,
        burst: 5,
    };

    #[test]
    fn a_bucket_gives_a_burst_and_then_the_rate() {
        let mut bucket = Bucket::new(RATE, 1000);
        for _ in 0..5 {
            assert_eq!(bucket.take(1000), Ok(()));
        }
        assert_eq!(bucket.take(1000), Err(100));
        assert_eq!(bucket.take(1099), Err(1));
        assert_eq!(bucket.take(1100), Ok(()));
        // A clock that goes back gives nothing.
        assert!(bucket.take(0).is_err());
    }

    proptest! {
        #[test]
        fn no_pattern_gets_more_than_rate_and_burst(steps in prop::collection::vec(0..400_u64, 1..200)) {
            let mut bucket = Bucket::new(RATE, 0);
            let (mut now, mut taken) = (0, 0);
            for step in steps {
                now += step;
                taken += u64::from(bucket.take(now).is_ok());
                prop_assert!(taken <= RATE.burst + now * RATE.each_second / 1000);
            }
        }

        #[test]
        fn jitter_stays_within_half_and_one_and_a_half(seed: u64) {
            let mut jitter = Jitter::new(seed);
            for _ in 0..50 {
                let time = jitter.around(Duration::from_secs(60)).as_millis();
                prop_assert!((30_000..=90_000).contains(&time));
            }
        }
    }

    #[test]
    fn many_addresses_do_not_fill_the_memory_and_leave_others_alone() {
        let mut sources = Sources::new(RATE);
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        for number in 0..10_000 {
            sources.admit(address(number), 0);
        }
        assert_eq!(sources.buckets.len(), SOURCES);
        assert!(sources.admit(address(1), 0), "known ones go on");
        assert!(sources.admit(address(50_000), 600), "and room comes back");
    }
}
