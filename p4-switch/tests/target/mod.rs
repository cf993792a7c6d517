//! A switch with tests/programs/entities.p4 behind a P4Runtime server on loopback, and a client of it.
#![allow(dead_code, reason = "each test uses its part")]

use std::sync::Arc;
use std::time::Duration;

use p4_switch::{Output, Switch, SwitchConfig};
use p4runtime::client::{Atomicity, PipelineAction};
use p4runtime::v1;
use p4runtime::{Client, Events, Options, P4Info};

/// What p4c made of entities.p4 for BMv2.
pub const PROGRAM: &[u8] = include_bytes!("../programs/entities.json");
const P4INFO: &str = include_str!("../programs/entities.p4info.txtpb");
/// The program's CPU port.
pub const CPU_PORT: u32 = 510;
/// Long enough for anything here, however busy the machine.
pub const SOON: Duration = Duration::from_secs(60);

/// The program's P4Info.
pub fn info() -> P4Info {
    P4Info::from_text(P4INFO).expect("p4c's P4Info is valid")
}

/// A switch that is served, and where.
pub struct Target {
    pub switch: Arc<Switch>,
    pub address: String,
    pub info: P4Info,
}

impl Target {
    /// A switch without a program. Device 1.
    pub async fn bare() -> Target {
        let switch = Arc::new(Switch::new(SwitchConfig {
            cpu_port: Some(CPU_PORT),
            ..SwitchConfig::default()
        }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let address = listener.local_addr().expect("bound").to_string();
        tokio::spawn(p4_switch::p4rt_server::serve(switch.clone(), Some(1), listener));
        Target {
            switch,
            address,
            info: info(),
        }
    }

    /// A switch with the program, and its primary client.
    pub async fn start() -> (Target, Client, Events) {
        let target = Target::bare().await;
        let (client, events) = target.client(1).await;
        client
            .set_pipeline(&target.info, PROGRAM.to_vec(), Some(7), PipelineAction::VerifyAndCommit)
            .await
            .expect("the program is accepted");
        (target, client, events)
    }

    /// A client that has become primary.
    pub async fn client(&self, election_id: u128) -> (Client, Events) {
        let (client, events) = self.connect(Options {
            election_id,
            ..Options::default()
        });
        client.primary(SOON).await.expect("primary");
        (client, events)
    }

    /// A client, connecting.
    pub fn connect(&self, options: Options) -> (Client, Events) {
        Client::connect(&self.address, options).expect("an address")
    }

    /// A packet through the switch.
    pub fn inject(&self, port: u32, packet: &[u8]) -> Vec<Output> {
        self.switch.inject(port, packet)
    }
}

/// One batch that goes on after errors, all of which must succeed.
pub async fn write(client: &Client, updates: impl IntoIterator<Item = v1::Update>) {
    let updates = updates.into_iter().collect();
    client
        .write(updates, Atomicity::ContinueOnError)
        .await
        .expect("every update is accepted");
}

/// The code of the only update of a batch.
pub async fn refused(client: &Client, update: v1::Update) -> tonic::Code {
    let error = client
        .write(vec![update], Atomicity::ContinueOnError)
        .await
        .expect_err("it is refused");
    error
        .updates()
        .first()
        .unwrap_or_else(|| panic!("an update's error, not {error}"))
        .code
}

/// Ethernet and an IPv4 header, as the program parses them.
pub struct Packet {
    pub ethertype: u16,
    pub source: u32,
    pub destination: u32,
    pub id: u16,
    pub protocol: u8,
}

impl Default for Packet {
    fn default() -> Self {
        Packet {
            ethertype: 0x0800,
            source: 0x0a00_0002,
            destination: 0x0a00_0001,
            id: 1,
            protocol: 17,
        }
    }
}

impl Packet {
    /// Its 60 octets.
    pub fn octets(&self) -> Vec<u8> {
        let mut octets = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        octets.extend(self.ethertype.to_be_bytes());
        octets.extend([0x45, 0, 0, 46]);
        octets.extend(self.id.to_be_bytes());
        octets.extend([0, 0, 64, self.protocol, 0, 0]);
        octets.extend(self.source.to_be_bytes());
        octets.extend(self.destination.to_be_bytes());
        octets.resize(60, 0);
        octets
    }
}
