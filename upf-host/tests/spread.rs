//! Which lcore gets a user's packets, and that none is lost, doubled or overtaken on the way there.

mod support;

use arrayvec::ArrayVec;
use nix::poll::{PollFd, PollFlags, poll};
use proptest::prelude::*;
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use support::*;
use upf_host::counters::{DropReason, HostEvent, LcoreCounters};
use upf_host::environment::Environment;
use upf_host::host_port::HostPort;
use upf_host::neighbours::PortIndex;
use upf_host::packet::{HeapPacket, Packet};
use upf_host::pipeline::BURST;
use upf_host::spread::Spread;
use upf_model::PuntReason;

/// Lcores with rings between them.
struct Lcores {
    spreads: Vec<Spread<HeapPacket>>,
    counters: Vec<Arc<LcoreCounters>>,
}

type Frames = Vec<(PortIndex, Vec<u8>)>;

impl Lcores {
    fn new(config: &str, lcores: usize) -> Self {
        let config = upf_config::parse(config, "test").unwrap();
        let env = Arc::new(Environment::new(&config, &[(UPF_MAC[0], false), (UPF_MAC[1], false)]).unwrap());
        let counters: Vec<Arc<LcoreCounters>> = (0..lcores).map(|_| Arc::default()).collect();
        let spreads = Spread::between(&env, &counters).unwrap();
        Self { spreads, counters }
    }

    /// An lcore receives a burst; what it keeps.
    fn receive(&mut self, lcore: usize, port: PortIndex, frames: &[Vec<u8>]) -> Frames {
        let mut burst = burst(frames);
        self.spreads[lcore].keep_own(port, &mut burst);
        taken(port, burst).collect()
    }

    /// All that the others have handed over to an lcore.
    fn take(&mut self, lcore: usize) -> Frames {
        let mut all = Vec::new();
        let mut burst = ArrayVec::new();
        while let Some(port) = self.spreads[lcore].take(32, &mut burst) {
            assert!(!burst.is_empty() && burst.len() <= 32);
            all.extend(taken(port, std::mem::take(&mut burst)));
        }
        all
    }

    fn handed_over(&self, lcore: usize) -> u64 {
        self.counters[lcore].events(HostEvent::HandedOver)
    }
}

fn burst(frames: &[Vec<u8>]) -> ArrayVec<HeapPacket, BURST> {
    frames.iter().map(|frame| HeapPacket::new(frame)).collect()
}

fn taken(port: PortIndex, burst: ArrayVec<HeapPacket, BURST>) -> impl Iterator<Item = (PortIndex, Vec<u8>)> {
    burst.into_iter().map(move |packet| (port, packet.bytes().to_vec()))
}

/// A packet of a user, with a number in it.
#[derive(Debug, Clone, Copy)]
struct Sent {
    user: u16,
    v6: bool,
    up: bool,
}

impl Sent {
    fn frame(self, number: u32) -> (PortIndex, Vec<u8>) {
        let text = number.to_be_bytes();
        let (v4, [_, _, a, b]) = (Ipv4Addr::from(0x0a3c_0000 + u32::from(self.user)), SERVER.octets());
        let prefix = Ipv6Addr::new(0xfd60, 0, 0, self.user, 0, 0, 0, u16::from(a));
        let server = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(b));
        match (self.v6, self.up) {
            (false, true) => (N3, uplink(self.user.into(), Some(9), &udp(v4, SERVER, 64, &text))),
            (false, false) => (N6, downlink(&udp(SERVER, v4, 64, &text))),
            (true, true) => (N3, uplink(self.user.into(), None, &udp6(prefix, server, &text))),
            (true, false) => (N6, downlink(&udp6(server, prefix, &text))),
        }
    }
}

fn number(frame: &[u8]) -> u32 {
    u32::from_be_bytes(*frame.last_chunk().unwrap())
}

fn sent() -> impl Strategy<Value = Sent> {
    (0..40u16, any::<bool>(), any::<bool>()).prop_map(|(user, v6, up)| Sent { user, v6, up })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn all_packets_of_a_user_are_one_lcores_each_once_and_in_order(
        lcores in 2..6usize,
        arrivals in prop::collection::vec((sent(), 0..6usize), 1..300),
    ) {
        let mut upf = Lcores::new(CONFIG, lcores);
        let mut at: Vec<Vec<u32>> = vec![Vec::new(); lcores];
        for (n, (sent, lcore)) in arrivals.iter().enumerate() {
            let (port, frame) = sent.frame(n as u32);
            // A queue is a user's for one direction, as a device would have it.
            let lcore = if sent.up { 0 } else { lcore % lcores };
            for (came_by, kept) in upf.receive(lcore, port, std::slice::from_ref(&frame)) {
                prop_assert_eq!((came_by, &kept), (port, &frame));
                at[lcore].push(number(&kept));
            }
            for (to, at) in at.iter_mut().enumerate() {
                for (came_by, given) in upf.take(to) {
                    prop_assert_eq!((came_by, &given), (port, &frame));
                    at.push(number(&given));
                }
            }
        }
        let mut all: Vec<u32> = at.concat();
        all.sort_unstable();
        prop_assert_eq!(all, (0..arrivals.len() as u32).collect::<Vec<_>>());
        let mut owners = HashMap::new();
        for (lcore, numbers) in at.iter().enumerate() {
            prop_assert!(numbers.is_sorted());
            for number in numbers {
                let Sent { user, v6, .. } = arrivals[*number as usize].0;
                prop_assert_eq!(*owners.entry((user, v6)).or_insert(lcore), lcore);
            }
        }
    }
}

#[test]
fn users_of_a_pool_are_spread_evenly() {
    for lcores in [2, 3, 4, 8] {
        let mut upf = Lcores::new(CONFIG, lcores);
        for user in 0..4_000 {
            let (port, frame) = Sent {
                user,
                v6: user % 2 == 0,
                up: true,
            }
            .frame(0);
            upf.receive(0, port, &[frame]);
        }
        let fair = 4_000 / lcores;
        for lcore in 1..lcores {
            let users = upf.take(lcore).len();
            assert!(
                users.abs_diff(fair) < fair / 5,
                "{users} of 4,000 users at one of {lcores} lcores"
            );
        }
    }
}

#[test]
fn what_is_no_users_packet_stays_where_it_came() {
    let mut upf = Lcores::new(CONFIG, 4);
    let mut echo = [0; 32];
    let n = gtpu::signalling::write_echo_request(&mut echo, 1).unwrap();
    let arp = [&[0xff; 6][..], &GNB_MAC, &[8, 6, 0, 1]].concat();
    for frame in [gtpu_frame(&echo[..n]), arp, vec![0; 5], Vec::new()] {
        for lcore in 0..4 {
            assert_eq!(
                upf.receive(lcore, N3, std::slice::from_ref(&frame)),
                [(N3, frame.clone())]
            );
        }
    }
    assert_eq!((0..4).map(|lcore| upf.handed_over(lcore)).sum::<u64>(), 0);
}

#[test]
fn a_ring_that_is_full_takes_no_more_and_what_did_not_fit_is_counted() {
    let mut upf = Lcores::new(CONFIG, 2);
    let user = (0..).find(|&user| {
        let (port, frame) = Sent {
            user,
            v6: false,
            up: true,
        }
        .frame(0);
        upf.receive(0, port, &[frame]).is_empty()
    });
    let sent = Sent {
        user: user.unwrap(),
        v6: false,
        up: true,
    };
    upf.take(1);
    let before = upf.handed_over(0);
    let mut offered = 0;
    while upf.counters[0].drops(DropReason::LcoreFull).packets == 0 {
        let frames: Vec<Vec<u8>> = (0..64).map(|n| sent.frame(offered + n).1).collect();
        assert!(upf.receive(0, N3, &frames).is_empty());
        offered += 64;
        assert!(offered < 100_000, "a ring has an end");
    }
    let (given, dropped) = (
        upf.handed_over(0) - before,
        upf.counters[0].drops(DropReason::LcoreFull),
    );
    assert_eq!(given + dropped.packets, u64::from(offered));
    let length = sent.frame(0).1.len() as u64;
    assert_eq!(dropped.bytes, dropped.packets * length);
    let numbers: Vec<u32> = upf.take(1).iter().map(|(_, frame)| number(frame)).collect();
    assert_eq!(numbers, (0..given as u32).collect::<Vec<_>>());
    // There is room again.
    let (port, frame) = sent.frame(7);
    upf.receive(0, port, std::slice::from_ref(&frame));
    assert_eq!(upf.take(1), [(port, frame)]);
}

#[test]
fn punted_frames_go_to_the_lcore_of_the_user_inside() {
    let mut upf = Lcores::new(CONFIG, 2);
    let host_port = HostPort::new(&upf_config::parse(&config_behind_p4(), "test").unwrap(), Arc::default()).unwrap();
    for user in 0..50 {
        for up in [true, false] {
            let (port, frame) = Sent { user, v6: false, up }.frame(0);
            let stays = !upf.receive(0, port, std::slice::from_ref(&frame)).is_empty();
            let wrapped = punted(PuntReason::FlowMiss, port, None, &frame);
            let mut received = burst(std::slice::from_ref(&wrapped));
            upf.spreads[0].keep_own_by(0, &mut received, |frame| host_port.peek(frame));
            assert_eq!(received.len(), usize::from(stays));
            let handed = upf.take(1);
            match stays {
                true => assert!(handed.is_empty()),
                false => assert_eq!(handed, [(port, frame), (0, wrapped)]),
            }
        }
    }
    let mut received = burst(&[vec![1, 2, 3]]);
    upf.spreads[0].keep_own_by(0, &mut received, |frame| host_port.peek(frame));
    assert_eq!(received.len(), 1, "what nobody punted is dropped where it came");
}

#[test]
fn an_lcore_that_sleeps_is_woken_by_what_is_handed_over() {
    const PACKETS: u32 = 20_000;
    const NEVER: u16 = 10_000;
    let mut upf = Lcores::new(CONFIG, 2);
    let others = (0..).map(|user| Sent {
        user,
        v6: false,
        up: true,
    });
    let sent: Vec<Sent> = others
        .filter(|sent| upf.receive(0, N3, &[sent.frame(0).1]).is_empty())
        .take(5)
        .collect();
    upf.take(1);
    let sleeper = upf.spreads.pop().unwrap();
    let mut waker = upf.spreads.pop().unwrap();
    let received = std::thread::spawn(move || {
        let (mut sleeper, mut numbers, mut sleeps) = (sleeper, Vec::new(), 0);
        let mut frames: ArrayVec<HeapPacket, BURST> = ArrayVec::new();
        while numbers.len() < PACKETS as usize {
            while sleeper.take(32, &mut frames).is_some() {
                numbers.extend(frames.drain(..).map(|packet| number(packet.bytes())));
            }
            if numbers.len() < PACKETS as usize
                && let Some(bell) = sleeper.about_to_sleep()
            {
                let mut wakers = [PollFd::new(bell, PollFlags::POLLIN)];
                assert_eq!(
                    poll(&mut wakers, NEVER).unwrap(),
                    1,
                    "asleep with {} packets",
                    numbers.len()
                );
                sleeper.awake();
                sleeps += 1;
            }
        }
        (numbers, sleeps)
    });
    for number in 0..PACKETS {
        let frame = sent[number as usize % sent.len()].frame(number).1;
        waker.keep_own(N3, &mut burst(&[frame]));
        match number % 97 {
            0 => std::thread::sleep(std::time::Duration::from_micros(50)),
            n if n % 2 == 0 => std::thread::yield_now(),
            _ => {}
        }
    }
    let (numbers, sleeps) = received.join().unwrap();
    assert_eq!(numbers, (0..PACKETS).collect::<Vec<_>>());
    assert!(sleeps > 10, "it slept {sleeps} times");
}
