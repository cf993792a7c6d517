//! A UPF of a few lines on loopback: it records what the SMF sends and answers as the test scripts it.

use smf_sim::{Ie, IeType, RawAnswer, Smf, Timers, raw_ie, transport};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::UdpSocket;

/// Recovery Time Stamp that the fake UPF reports.
pub const RECOVERY: u32 = 0xe000_0001;
/// TEID that it allocates.
pub const UPLINK_TEID: u32 = 0x0000_7001;

/// A request as it came: its octets, and decoded.
#[derive(Clone)]
pub struct Received {
    pub octets: Vec<u8>,
    pub message: RawAnswer,
}

/// What to answer to a request: message type and IEs; `None`: silence.
pub type Script = dyn Fn(&Received) -> Option<(Option<u64>, Vec<Ie>)> + Send + Sync;

pub struct FakeUpf {
    pub socket: Arc<UdpSocket>,
    received: Arc<Mutex<Vec<Received>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for FakeUpf {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeUpf {
    /// Answers everything as a willing UPF would.
    pub async fn willing() -> Self {
        Self::scripted(Box::new(willing)).await
    }

    pub async fn scripted(script: Box<Script>) -> Self {
        let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
        let received = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(serve(Arc::clone(&socket), Arc::clone(&received), script));
        Self { socket, received, task }
    }

    pub fn addr(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    pub async fn smf(&self) -> Smf {
        let timers = Timers {
            t1: Duration::from_millis(60),
            n1: 3,
        };
        let local = (Ipv4Addr::LOCALHOST, 0).into();
        Smf::connect_with(local, self.addr(), [127, 0, 0, 1], timers)
            .await
            .unwrap()
    }

    /// Requests so far, retransmissions included; responses of the SMF too.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    pub fn last(&self) -> Received {
        self.received().pop().expect("the UPF received nothing")
    }

    /// Waits until this many messages of a type came.
    pub async fn wait_for(&self, message_type: u8, count: usize) -> Vec<Received> {
        for _ in 0..200 {
            let of_type: Vec<_> = self
                .received()
                .into_iter()
                .filter(|r| r.message.message_type == message_type)
                .collect();
            if of_type.len() >= count {
                return of_type;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{count} messages of type {message_type} did not come");
    }
}

async fn serve(socket: Arc<UdpSocket>, received: Arc<Mutex<Vec<Received>>>, script: Box<Script>) {
    let mut buffer = vec![0; 65_535];
    loop {
        let Ok((len, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let octets = buffer[..len].to_vec();
        let request = Received {
            message: decode(&octets),
            octets,
        };
        received.lock().unwrap().push(request.clone());
        if let Some((seid, ies)) = script(&request) {
            let response = transport::encode(request.message.message_type + 1, seid, request.message.sequence, &ies);
            socket.send_to(&response, from).await.unwrap();
        }
    }
}

/// Decoded by rs-pfcp's own splitter, the header by hand.
fn decode(octets: &[u8]) -> RawAnswer {
    let has_seid = octets[0] & 1 == 1;
    let (seid, rest) = if has_seid {
        (
            Some(u64::from_be_bytes(octets[4..12].try_into().unwrap())),
            &octets[12..],
        )
    } else {
        (None, &octets[4..])
    };
    let sequence = u32::from_be_bytes([0, rest[0], rest[1], rest[2]]);
    let ies = rs_pfcp::ie::IeIterator::new(&rest[4..])
        .map(|ie| ie.expect("IEs split cleanly"))
        .collect();
    assert_eq!(
        usize::from(u16::from_be_bytes([octets[2], octets[3]])),
        octets.len() - 4,
        "message length"
    );
    RawAnswer {
        message_type: octets[1],
        seid,
        sequence,
        ies,
    }
}

/// A UPF that accepts: one UP SEID for each session, one TEID for each chosen F-TEID.
pub fn willing(request: &Received) -> Option<(Option<u64>, Vec<Ie>)> {
    let node_id = raw_ie(60, &[0, 127, 0, 0, 1]);
    let accepted = raw_ie(19, &[1]);
    let up_seid = |cp: u64| cp | 0x8000_0000_0000_0000;
    Some(match request.message.message_type {
        1 => (None, vec![raw_ie(96, &RECOVERY.to_be_bytes())]),
        // FTUP, EMPU, UEIP.
        5 => (
            None,
            vec![
                node_id,
                accepted,
                raw_ie(96, &RECOVERY.to_be_bytes()),
                raw_ie(43, &[0x10, 0x01, 0x04]),
            ],
        ),
        9 => (None, vec![node_id, accepted]),
        50 => {
            let cp = u64::from_be_bytes(request.message.find(IeType::Fseid).unwrap()[1..9].try_into().unwrap());
            let f_seid = [&[0x02][..], &up_seid(cp).to_be_bytes(), &[127, 0, 0, 1]].concat();
            let f_teid = [&[0x01][..], &UPLINK_TEID.to_be_bytes(), &[127, 0, 0, 1]].concat();
            let created = Ie::new_grouped(IeType::CreatedPdr, vec![raw_ie(56, &[0, 1]), raw_ie(21, &f_teid)]);
            (Some(cp), vec![node_id, accepted, raw_ie(57, &f_seid), created])
        }
        52 | 54 => {
            let cp = request.message.seid.unwrap() & !0x8000_0000_0000_0000;
            let mut ies = vec![accepted];
            if request.message.message_type == 54 {
                ies.push(usage_report(IeType::UsageReportWithinSessionDeletionResponse));
            }
            (Some(cp), ies)
        }
        _ => return None,
    })
}

/// URR 1, TERMR, 1000 octets in 10 packets up and 2000 in 20 down, 42 seconds.
pub fn usage_report(t: IeType) -> Ie {
    let mut volume = vec![0x3f];
    for value in [3000_u64, 1000, 2000, 30, 10, 20] {
        volume.extend(value.to_be_bytes());
    }
    Ie::new_grouped(
        t,
        vec![
            raw_ie(81, &[0, 0, 0, 1]),
            raw_ie(104, &[0, 0, 0, 0]),
            raw_ie(63, &[0, 0x08, 0]),
            raw_ie(66, &volume),
            raw_ie(67, &[0, 0, 0, 42]),
        ],
    )
}

#[allow(dead_code)] // each test binary uses its own part
pub const GNB: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
