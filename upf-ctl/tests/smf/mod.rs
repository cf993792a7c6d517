//! An SMF for tests: PFCP messages made by hand, and a controller over a data plane in memory to send them to.
//!
//! Nothing of the controller's own encoding is used to talk to it.

#![allow(dead_code)] // Each test file uses its own part.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use upf_config::Config;
use upf_ctl::planes::memory::MemoryPlane;

pub const HEARTBEAT_REQUEST: u8 = 1;
pub const HEARTBEAT_RESPONSE: u8 = 2;
pub const ASSOCIATION_SETUP_REQUEST: u8 = 5;
pub const ASSOCIATION_UPDATE_REQUEST: u8 = 7;
pub const ASSOCIATION_RELEASE_REQUEST: u8 = 9;
pub const ESTABLISHMENT_REQUEST: u8 = 50;
pub const MODIFICATION_REQUEST: u8 = 52;
pub const DELETION_REQUEST: u8 = 54;
pub const REPORT_REQUEST: u8 = 56;
pub const REPORT_RESPONSE: u8 = 57;

pub const ACCEPTED: u8 = 1;
pub const SESSION_CONTEXT_NOT_FOUND: u8 = 65;
pub const MANDATORY_IE_MISSING: u8 = 66;
pub const NO_ASSOCIATION: u8 = 72;
pub const RULE_FAILURE: u8 = 73;
pub const CONGESTION: u8 = 74;
pub const SYSTEM_FAILURE: u8 = 77;

/// Loopback addresses that no other test uses: 127.P.N.1 and up.
pub fn network() -> [u8; 3] {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    [127, 1 + (std::process::id() % 250) as u8, n as u8]
}

pub fn host(network: [u8; 3], last: u8) -> Ipv4Addr {
    Ipv4Addr::new(network[0], network[1], network[2], last)
}

/// A directory that goes when the test ends.
#[derive(Debug)]
pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(1);
        let name = format!(
            "upf-ctl-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn config_text(listen: Ipv4Addr, directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "
name: test-{}
runtime_dir: {directory}
state_dir: {directory}
pfcp: {{ listen: '{listen}:8805', heartbeat_interval_s: 0, t1_ms: 200, n1: 3, max_sessions: 1000 }}
ports:
  - {{ name: n3, device: net_null0, addresses: [192.0.2.1/24, '2001:db8:3::1/64'], network_instance: access,
       interfaces: [access], gtpu: true }}
  - {{ name: n6, device: net_null1, addresses: [198.51.100.1/24], network_instance: internet, interfaces: [core] }}
network_instances:
  - name: access
  - name: internet
    routes: [{{ prefix: 0.0.0.0/0, via: 198.51.100.2 }}]
    ue_pools: [10.60.0.0/29, '2001:db8:60::/48']
",
        listen.to_string().replace('.', "-")
    )
}

/// A controller over a data plane in memory.
pub struct Upf {
    pub address: Ipv4Addr,
    pub plane: Arc<MemoryPlane>,
    pub config: Config,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), upf_ctl::Error>>,
}

impl Upf {
    pub async fn start(network: [u8; 3], directory: &Path) -> Self {
        Self::start_with(network, directory, |_| {}).await
    }

    pub async fn start_with(network: [u8; 3], directory: &Path, change: impl FnOnce(&mut Config)) -> Self {
        let address = host(network, 1);
        let text = config_text(address, directory);
        let mut config = upf_config::parse(&text, "test").unwrap_or_else(|error| panic!("{error}"));
        change(&mut config);
        let (events, plane_events) = upf_ctl::plane_events();
        let plane = Arc::new(MemoryPlane::new(events));
        let (stop, stopped) = oneshot::channel();
        let running = upf_ctl::run_with(config.clone(), vec![plane.clone()], plane_events, async {
            let _ = stopped.await;
        });
        let task = tokio::spawn(running);
        let mut upf = Self {
            address,
            plane,
            config,
            stop,
            task,
        };
        upf.wait_until_it_listens().await;
        upf
    }

    async fn wait_until_it_listens(&mut self) {
        let mut smf = Smf::at(SocketAddr::new(self.address.into(), 0), self.address).await;
        for _ in 0..100 {
            let heartbeat = smf.message(HEARTBEAT_REQUEST, None, &[ie(96, &1_u32.to_be_bytes())]);
            smf.send(&heartbeat).await;
            if smf.receive_within(Duration::from_millis(50)).await.is_some() {
                return;
            }
            if self.task.is_finished() {
                panic!("the controller has ended: {:?}", (&mut self.task).await);
            }
        }
        panic!("the controller does not answer");
    }

    /// Ends it in good order.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.unwrap().unwrap();
    }

    /// What the control socket says.
    pub async fn get(&self, path: &str) -> (u16, String) {
        self.request("GET", path, "").await
    }

    /// What the control socket answers.
    pub async fn request(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let socket = self.config.runtime_dir.join(format!("{}.sock", self.config.name));
        let mut stream = tokio::net::UnixStream::connect(socket).await.unwrap();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: upf\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    pub async fn json(&self, path: &str) -> serde_json::Value {
        let (status, body) = self.get(path).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// F-TEIDs and UE addresses held.
    pub async fn held(&self) -> (u64, u64) {
        let status = self.json("/v1/status").await;
        (
            status["fteids"].as_u64().unwrap(),
            status["ue_addresses"].as_u64().unwrap(),
        )
    }
}

/// One information element.
pub fn ie(ie_type: u16, value: &[u8]) -> Vec<u8> {
    let mut octets = ie_type.to_be_bytes().to_vec();
    octets.extend((value.len() as u16).to_be_bytes());
    octets.extend(value);
    octets
}

/// A grouped one.
pub fn group(ie_type: u16, elements: &[Vec<u8>]) -> Vec<u8> {
    ie(ie_type, &elements.concat())
}

/// The IEs of a message or group.
pub fn elements(mut octets: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut found = Vec::new();
    while octets.len() >= 4 {
        let length = usize::from(u16::from_be_bytes([octets[2], octets[3]]));
        found.push((
            u16::from_be_bytes([octets[0], octets[1]]),
            octets[4..4 + length].to_vec(),
        ));
        octets = &octets[4 + length..];
    }
    found
}

/// A received message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub datagram: Vec<u8>,
    pub message_type: u8,
    pub seid: Option<u64>,
    pub sequence: u32,
    pub elements: Vec<(u16, Vec<u8>)>,
}

impl Received {
    pub fn parse(datagram: &[u8]) -> Self {
        let has_seid = datagram[0] & 1 == 1;
        let at = if has_seid { 12 } else { 4 };
        Self {
            datagram: datagram.to_vec(),
            message_type: datagram[1],
            seid: has_seid.then(|| u64::from_be_bytes(datagram[4..12].try_into().unwrap())),
            sequence: u32::from_be_bytes([0, datagram[at], datagram[at + 1], datagram[at + 2]]),
            elements: elements(&datagram[at + 4..]),
        }
    }

    pub fn all(&self, ie_type: u16) -> Vec<Vec<u8>> {
        self.elements
            .iter()
            .filter(|(t, _)| *t == ie_type)
            .map(|(_, v)| v.clone())
            .collect()
    }

    pub fn one(&self, ie_type: u16) -> Vec<u8> {
        self.all(ie_type)
            .first()
            .unwrap_or_else(|| panic!("no IE {ie_type} in {self:?}"))
            .clone()
    }

    pub fn cause(&self) -> u8 {
        self.one(19)[0]
    }

    pub fn offending_ie(&self) -> Option<u16> {
        self.all(40).first().map(|v| u16::from_be_bytes([v[0], v[1]]))
    }

    /// The SEID of the UP F-SEID.
    pub fn up_seid(&self) -> u64 {
        u64::from_be_bytes(self.one(57)[1..9].try_into().unwrap())
    }

    /// TEID of the F-TEID of the first Created PDR.
    pub fn created_teid(&self) -> u32 {
        let created = elements(&self.one(8));
        let fteid = &created.iter().find(|(t, _)| *t == 21).unwrap().1;
        u32::from_be_bytes(fteid[1..5].try_into().unwrap())
    }
}

/// The other end of N4.
pub struct Smf {
    pub socket: UdpSocket,
    pub address: SocketAddr,
    pub upf: SocketAddr,
    pub sequence: u32,
    pub recovery: u32,
    /// Requests of the UPF that came while waiting for something else.
    pub requests: Vec<Received>,
}

impl Smf {
    /// At the second address of the network, on PFCP's port.
    pub async fn new(network: [u8; 3]) -> Self {
        Self::at(SocketAddr::new(host(network, 2).into(), 8805), host(network, 1)).await
    }

    pub async fn at(address: SocketAddr, upf: Ipv4Addr) -> Self {
        let socket = UdpSocket::bind(address).await.unwrap();
        let address = socket.local_addr().unwrap();
        Self {
            socket,
            address,
            upf: (upf, 8805).into(),
            sequence: 0,
            recovery: 3_900_000_000,
            requests: Vec::new(),
        }
    }

    pub async fn associated(network: [u8; 3]) -> Self {
        let mut smf = Self::new(network).await;
        assert_eq!(smf.associate().await.cause(), ACCEPTED);
        smf
    }

    fn ip(&self) -> Ipv4Addr {
        match self.address.ip() {
            IpAddr::V4(a) => a,
            IpAddr::V6(_) => unreachable!("tests use IPv4"),
        }
    }

    pub fn node_id(&self) -> Vec<u8> {
        ie(60, &[&[0], self.ip().octets().as_slice()].concat())
    }

    pub fn recovery_time_stamp(&self) -> Vec<u8> {
        ie(96, &self.recovery.to_be_bytes())
    }

    pub fn fseid(&self, seid: u64) -> Vec<u8> {
        ie(57, &[&[2], seid.to_be_bytes().as_slice(), &self.ip().octets()].concat())
    }

    /// A message with the next sequence number.
    pub fn message(&mut self, message_type: u8, seid: Option<u64>, elements: &[Vec<u8>]) -> Vec<u8> {
        self.sequence += 1;
        message(message_type, seid, self.sequence, elements)
    }

    pub async fn send(&self, datagram: &[u8]) {
        self.socket.send_to(datagram, self.upf).await.unwrap();
    }

    pub async fn receive_within(&self, time: Duration) -> Option<Received> {
        let mut buffer = vec![0; 65_536];
        let received = tokio::time::timeout(time, self.socket.recv_from(&mut buffer))
            .await
            .ok()?;
        Some(Received::parse(&buffer[..received.unwrap().0]))
    }

    /// The next response.
    pub async fn response(&mut self) -> Received {
        loop {
            let received = self.receive_within(Duration::from_secs(5)).await.expect("a response");
            match received.message_type {
                HEARTBEAT_REQUEST | REPORT_REQUEST => self.requests.push(received),
                _ => return received,
            }
        }
    }

    /// The next request of the UPF, if one comes.
    pub async fn request_within(&mut self, time: Duration) -> Option<Received> {
        if self.requests.is_empty() {
            self.receive_within(time).await
        } else {
            Some(self.requests.remove(0))
        }
    }

    pub async fn ask(&mut self, message_type: u8, seid: Option<u64>, elements: &[Vec<u8>]) -> Received {
        let datagram = self.message(message_type, seid, elements);
        self.send(&datagram).await;
        let response = self.response().await;
        assert_eq!(
            (response.message_type, response.sequence),
            (message_type + 1, self.sequence)
        );
        response
    }

    pub async fn associate(&mut self) -> Received {
        let elements = [self.node_id(), self.recovery_time_stamp()];
        self.ask(ASSOCIATION_SETUP_REQUEST, None, &elements).await
    }

    /// Establishes a session of this UE, with its own SEID `cp_seid`.
    pub async fn establish(&mut self, cp_seid: u64, ue: Ipv4Addr) -> Received {
        let elements = self.establishment(cp_seid, ue);
        self.ask(ESTABLISHMENT_REQUEST, Some(0), &elements).await
    }

    /// Uplink and downlink PDR, FAR each, a QER, a URR; the UPF chooses the F-TEID; downlink goes nowhere yet.
    pub fn establishment(&self, cp_seid: u64, ue: Ipv4Addr) -> Vec<Vec<u8>> {
        vec![
            self.node_id(),
            self.fseid(cp_seid),
            group(
                1,
                &[
                    pdr_id(1),
                    precedence(100),
                    uplink_pdi(&[5, 7]),
                    ie(95, &[0]),
                    far_id(1),
                    urr_id(1),
                    qer_id(1),
                ],
            ),
            group(
                1,
                &[
                    pdr_id(2),
                    precedence(100),
                    downlink_pdi(ue),
                    far_id(2),
                    urr_id(1),
                    qer_id(1),
                ],
            ),
            group(
                3,
                &[
                    far_id(1),
                    ie(44, &[2]),
                    group(4, &[ie(42, &[1]), network_instance("internet")]),
                ],
            ),
            group(3, &[far_id(2), ie(44, &[1])]),
            group(7, &[qer_id(1), ie(25, &[0]), ie(124, &[9])]),
            group(6, &[urr_id(1), ie(62, &[2]), ie(37, &[0, 0])]),
        ]
    }

    pub async fn delete(&mut self, up_seid: u64) -> Received {
        self.ask(DELETION_REQUEST, Some(up_seid), &[]).await
    }

    /// Sets the downlink FAR's apply action, with a tunnel to the gNB if it forwards.
    pub fn downlink(&self, action: u8, teid: u32) -> Vec<u8> {
        let mut elements = vec![far_id(2), ie(44, &[action])];
        if action == FORWARD {
            let tunnel = [&[1, 0], teid.to_be_bytes().as_slice(), &[192, 0, 2, 100]].concat();
            elements.push(group(11, &[ie(42, &[0]), ie(84, &tunnel)]));
        }
        group(10, &elements)
    }
}

pub const DROP: u8 = 1;
pub const FORWARD: u8 = 2;
pub const BUFFER_AND_NOTIFY: u8 = 4 | 8;

pub fn message(message_type: u8, seid: Option<u64>, sequence: u32, elements: &[Vec<u8>]) -> Vec<u8> {
    let body = elements.concat();
    let mut octets = vec![0x20 | u8::from(seid.is_some()), message_type];
    let length = body.len() + if seid.is_some() { 12 } else { 4 };
    octets.extend((length as u16).to_be_bytes());
    if let Some(seid) = seid {
        octets.extend(seid.to_be_bytes());
    }
    octets.extend(&sequence.to_be_bytes()[1..]);
    octets.push(0);
    octets.extend(body);
    octets
}

pub fn pdr_id(id: u16) -> Vec<u8> {
    ie(56, &id.to_be_bytes())
}
pub fn precedence(value: u32) -> Vec<u8> {
    ie(29, &value.to_be_bytes())
}
pub fn far_id(id: u32) -> Vec<u8> {
    ie(108, &id.to_be_bytes())
}
pub fn qer_id(id: u32) -> Vec<u8> {
    ie(109, &id.to_be_bytes())
}
pub fn urr_id(id: u32) -> Vec<u8> {
    ie(81, &id.to_be_bytes())
}
pub fn network_instance(name: &str) -> Vec<u8> {
    ie(22, name.as_bytes())
}
/// From access, in a tunnel: `fteid` is the F-TEID's value.
pub fn uplink_pdi(fteid: &[u8]) -> Vec<u8> {
    group(2, &[ie(20, &[0]), ie(21, &fteid[..1]), network_instance("access")])
}
/// From core, to this UE.
pub fn downlink_pdi(ue: Ipv4Addr) -> Vec<u8> {
    let ue = [&[6], ue.octets().as_slice()].concat();
    group(2, &[ie(20, &[1]), network_instance("internet"), ie(93, &ue)])
}
