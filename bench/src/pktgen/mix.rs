//! Whose packets are sent and how long they are: drawn before the clock starts, read in order while it runs.

use std::net::Ipv4Addr;
use std::str::FromStr;

/// Picks that are drawn for each session at least, and for all at least and at most.
const PER_SESSION: usize = 2;
const FEWEST: usize = 1 << 16;
const MOST: usize = 1 << 22;
/// The share of the n-th user falls as 1/n.
const EXPONENT: f64 = 1.0;

/// A user: what of the headers differs between sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// UE address.
    pub ue: Ipv4Addr,
    /// Of the uplink tunnel at the UPF.
    pub teid: u32,
}

/// How packets are spread over users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Distribution {
    /// Each user as likely as any other.
    Uniform,
    /// The n-th user as likely as 1/n of the first.
    Zipf,
}

impl Distribution {
    /// As figures call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Zipf => "zipf",
        }
    }
}

/// Users in the order in which they send, over and over.
#[derive(Debug)]
pub struct Picks {
    users: Vec<User>,
    next: usize,
}

impl Picks {
    /// Drawn from these users, of which there is at least one.
    pub fn draw(users: &[User], distribution: Distribution) -> Self {
        let count = (users.len() * PER_SESSION).clamp(FEWEST, MOST);
        let mut random = Random(0x5eed);
        let mut drawn = Vec::with_capacity(count);
        match distribution {
            Distribution::Uniform => drawn.extend((0..count).map(|_| users[random.below(users.len())])),
            Distribution::Zipf => {
                let mut sum = 0.0;
                let cumulated: Vec<f64> = (1..=users.len())
                    .map(|n| {
                        sum += (n as f64).powf(-EXPONENT);
                        sum
                    })
                    .collect();
                drawn.extend((0..count).map(|_| {
                    let at = random.share() * sum;
                    let rank = cumulated.partition_point(|&c| c < at).min(users.len() - 1);
                    // Neighbours in rank are not neighbours in memory: a prime spreads them.
                    users[(rank as u64 * 2_654_435_761 % users.len() as u64) as usize]
                }));
            }
        }
        Self { users: drawn, next: 0 }
    }

    /// The next one.
    #[inline]
    pub fn next(&mut self) -> User {
        let user = self.users[self.next];
        self.next += 1;
        if self.next == self.users.len() {
            self.next = 0;
        }
        user
    }
}

/// Lengths of users' IP packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sizes {
    /// All alike.
    Fixed(usize),
    /// Seven of 64 bytes, four of 576, one of 1,400: the usual mixture, its longest packets short enough for a tunnel.
    Imix,
}

/// Of [`Sizes::Imix`], mixed.
const IMIX: [usize; 12] = [64, 576, 64, 64, 576, 64, 1_400, 64, 576, 64, 576, 64];

impl Sizes {
    /// The shortest that has room for the stamp, and the longest that fits a tunnel over Ethernet's MTU.
    pub const RANGE: std::ops::RangeInclusive<usize> = 52..=1_456;

    /// Of all packets in turn.
    pub fn cycle(self) -> &'static [usize] {
        match self {
            Self::Fixed(64) => &[64],
            Self::Fixed(1_400) => &[1_400],
            Self::Fixed(other) => Vec::leak(vec![other]),
            Self::Imix => &IMIX,
        }
    }

    /// On average.
    pub fn mean(self) -> f64 {
        let cycle = self.cycle();
        cycle.iter().sum::<usize>() as f64 / cycle.len() as f64
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(bytes) if Self::RANGE.contains(&bytes) => Ok(Self::Fixed(bytes)),
            _ if text.eq_ignore_ascii_case("imix") => Ok(Self::Imix),
            _ => Err(format!(
                "expected imix or {} to {} bytes",
                Self::RANGE.start(),
                Self::RANGE.end()
            )),
        }
    }
}

impl std::fmt::Display for Sizes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(bytes) => write!(f, "{bytes}"),
            Self::Imix => f.write_str("IMIX"),
        }
    }
}

/// The same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }
    fn below(&mut self, bound: usize) -> usize {
        ((u64::from(self.next()) * bound as u64) >> 32) as usize
    }
    fn share(&mut self) -> f64 {
        f64::from(self.next()) / 4_294_967_296.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn users(count: u32) -> Vec<User> {
        let user = |n| User {
            ue: Ipv4Addr::from_bits(n),
            teid: n,
        };
        (0..count).map(user).collect()
    }

    fn counts(distribution: Distribution) -> Vec<usize> {
        let mut picks = Picks::draw(&users(1_000), distribution);
        let mut counts: HashMap<u32, usize> = HashMap::new();
        (0..FEWEST).for_each(|_| *counts.entry(picks.next().teid).or_default() += 1);
        let mut counts: Vec<usize> = counts.into_values().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        counts
    }

    #[test]
    fn uniform_traffic_reaches_every_user_about_equally() {
        let counts = counts(Distribution::Uniform);
        assert_eq!(counts.len(), 1_000);
        assert!(counts[0] < 3 * counts[999], "{} and {}", counts[0], counts[999]);
    }

    #[test]
    fn of_zipf_traffic_the_first_user_has_about_twice_the_second_and_a_seventh_of_all() {
        let counts = counts(Distribution::Zipf);
        let ratio = counts[0] as f64 / counts[1] as f64;
        assert!((1.8..2.2).contains(&ratio), "{ratio}");
        let share = counts[0] as f64 / FEWEST as f64; // 1 / (1 + 1/2 + ... + 1/1000)
        assert!((0.12..0.15).contains(&share), "{share}");
    }

    #[test]
    fn sizes_are_imix_or_what_fits() {
        assert_eq!("IMIX".parse(), Ok(Sizes::Imix));
        assert_eq!("64".parse(), Ok(Sizes::Fixed(64)));
        assert!("51".parse::<Sizes>().is_err() && "1500".parse::<Sizes>().is_err());
        assert!((Sizes::Imix.mean() - 346.0).abs() < 1.0);
    }
}
