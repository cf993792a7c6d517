//! A conversation of a P4Runtime client with a switch, and what must hold of any.
//!
//! The input is a list of requests, each led by an octet that says which RPC it is of and two for its length. The
//! switch has the program of p4-switch's tests, and one client is its primary.

use std::sync::{Arc, LazyLock};

use p4_switch::p4rt_server::Device;
use p4_switch::{Switch, SwitchConfig};
use p4runtime::client::uint128;
use p4runtime::{P4Info, v1};
use prost::Message;

static PROGRAM: &[u8] = include_bytes!("../../p4-switch/tests/programs/entities.json");
static CONFIG: LazyLock<v1::ForwardingPipelineConfig> = LazyLock::new(|| {
    let text = include_str!("../../p4-switch/tests/programs/entities.p4info.txtpb");
    let info = P4Info::from_text(text).expect("the test program's P4Info is valid");
    v1::ForwardingPipelineConfig {
        p4info: Some(info.message().clone()),
        p4_device_config: PROGRAM.to_vec(),
        cookie: None,
    }
});

/// Does what the input says; afterwards what is read can be written, and is then read the same.
pub fn p4runtime_request(data: &[u8]) {
    let device = programmed();
    let (stream, _responses) = device.open_stream();
    let mut rest = data;
    while let [rpc, high, low, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
        let (message, next) = tail.split_at(length);
        rest = next;
        request(&device, stream, *rpc, message);
    }
    let entries = entries(&device);
    let again = programmed();
    let updates = entries
        .iter()
        .filter(|entry| !entry.is_const)
        .cloned()
        .map(p4runtime::entity::insert)
        .collect();
    // References to members and groups lead nowhere there; nothing but them may be refused.
    let written = again.write(write_request(updates));
    let indirect = |entry: &v1::TableEntry| {
        let action = entry.action.as_ref().and_then(|action| action.r#type.as_ref());
        !matches!(action, Some(v1::table_action::Type::Action(_)))
    };
    if !entries.iter().any(indirect) {
        assert!(written.is_ok(), "what was read cannot be written: {written:?}");
    }
}

fn programmed() -> Device {
    let switch = Switch::new(SwitchConfig {
        cpu_port: Some(510),
        ..SwitchConfig::default()
    });
    let device = Device::new(Arc::new(switch), Some(1));
    let (stream, _responses) = device.open_stream();
    let arbitration = v1::MasterArbitrationUpdate {
        device_id: 1,
        election_id: Some(uint128(1)),
        ..Default::default()
    };
    let update = Some(v1::stream_message_request::Update::Arbitration(arbitration));
    device
        .received(stream, v1::StreamMessageRequest { update })
        .expect("the first client is primary");
    let request = v1::SetForwardingPipelineConfigRequest {
        device_id: 1,
        election_id: Some(uint128(1)),
        action: v1::set_forwarding_pipeline_config_request::Action::VerifyAndCommit as i32,
        config: Some(CONFIG.clone()),
        ..Default::default()
    };
    device.set_pipeline(request).expect("the test program is accepted");
    device
}

fn request(device: &Device, stream: u64, rpc: u8, message: &[u8]) {
    match rpc % 6 {
        // As the primary, most of the time.
        0 | 1 => {
            if let Ok(mut request) = v1::WriteRequest::decode(message) {
                request.device_id = 1;
                if rpc.is_multiple_of(6) {
                    (request.role, request.election_id) = (String::new(), Some(uint128(1)));
                }
                let _ = device.write(request);
            }
        }
        2 => {
            if let Ok(request) = v1::ReadRequest::decode(message) {
                let _ = device.read(
                    v1::ReadRequest {
                        device_id: 1,
                        ..request
                    },
                    &mut |_| {},
                );
            }
        }
        3 => {
            if let Ok(request) = v1::StreamMessageRequest::decode(message) {
                let _ = device.received(stream, request);
            }
        }
        4 => {
            if let Ok(request) = v1::SetForwardingPipelineConfigRequest::decode(message) {
                let config = request.config.map(|config| v1::ForwardingPipelineConfig {
                    // Mutated programs are the JSON loader's target.
                    p4_device_config: PROGRAM.to_vec(),
                    ..config
                });
                let election_id = Some(uint128(1));
                let verify = v1::set_forwarding_pipeline_config_request::Action::Verify as i32;
                let request = v1::SetForwardingPipelineConfigRequest {
                    device_id: 1,
                    role: String::new(),
                    election_id,
                    config,
                    action: verify,
                    ..request
                };
                let _ = device.set_pipeline(request);
            }
        }
        _ => {
            if let Ok(request) = v1::GetForwardingPipelineConfigRequest::decode(message) {
                let _ = device.pipeline(request);
            }
        }
    }
}

fn entries(device: &Device) -> Vec<v1::TableEntry> {
    let all = v1::Entity::from(v1::TableEntry::default());
    let request = v1::ReadRequest {
        device_id: 1,
        role: String::new(),
        entities: vec![all],
    };
    let mut entries = Vec::new();
    device
        .read(request, &mut |entity| {
            if let Some(v1::entity::Entity::TableEntry(entry)) = entity.entity {
                entries.push(entry);
            }
        })
        .expect("a wildcard read succeeds");
    entries
}

fn write_request(updates: Vec<v1::Update>) -> v1::WriteRequest {
    v1::WriteRequest {
        device_id: 1,
        election_id: Some(uint128(1)),
        updates,
        ..Default::default()
    }
}
