//! Packet-in and packet-out: metadata to and from the header that leads the packet.
//!
//! A program marks one header for each direction with `@controller_header`; P4Info lists its fields in order. They lie
//! one behind the other, most significant bit first, without gaps; the header as a whole is padded to octets.

use p4runtime::p4info::ControllerPacketMetadata;
use p4runtime::value;
use p4runtime::{P4Info, v1};

use super::refusal::Refusal;

/// The bits of a header of at most this many octets are handled; a longer one is no P4 header.
const MAX_HEADER: usize = 2048;

/// A packet from the CPU port as a message. `None` if it is shorter than the header.
pub fn packet_in(info: &P4Info, packet: Vec<u8>) -> Option<v1::PacketIn> {
    let Some(header) = info.controller_packet_metadata.get("packet_in") else {
        return Some(v1::PacketIn {
            payload: packet,
            metadata: Vec::new(),
        });
    };
    let length = octets(header).filter(|&length| length <= packet.len())?;
    let mut from = 0;
    let mut metadata = Vec::with_capacity(header.metadata.len());
    for field in &header.metadata {
        let bits = extract(&packet, from, field.bitwidth as usize);
        metadata.push(v1::PacketMetadata {
            metadata_id: field.id,
            value: value::canonical(&bits).to_vec(),
        });
        from += field.bitwidth as usize;
    }
    let mut payload = packet;
    payload.drain(..length);
    Some(v1::PacketIn { payload, metadata })
}

/// A message as a packet for the CPU port: the header, then the payload.
pub fn packet_out(info: &P4Info, message: &v1::PacketOut) -> Result<Vec<u8>, Refusal> {
    let Some(header) = info.controller_packet_metadata.get("packet_out") else {
        return match message.metadata.first() {
            Some(metadata) => Err(Refusal::invalid(format!(
                "unknown metadata id {}",
                metadata.metadata_id
            ))),
            None => Ok(message.payload.clone()),
        };
    };
    let length = octets(header).ok_or_else(|| Refusal::unimplemented("the packet_out header is too long"))?;
    let known = |id| header.metadata.iter().any(|field| field.id == id);
    if let Some(unknown) = message.metadata.iter().find(|metadata| !known(metadata.metadata_id)) {
        return Err(Refusal::invalid(format!("unknown metadata id {}", unknown.metadata_id)));
    }
    let mut packet = vec![0; length];
    packet.extend(&message.payload);
    let mut to = 0;
    for field in &header.metadata {
        let mut given = message
            .metadata
            .iter()
            .filter(|metadata| metadata.metadata_id == field.id);
        let (Some(metadata), None) = (given.next(), given.next()) else {
            return Err(Refusal::invalid(format!(
                "metadata {:?} is not given exactly once",
                field.name
            )));
        };
        let bits = (!metadata.value.is_empty())
            .then(|| value::padded(&metadata.value, field.bitwidth))
            .flatten();
        let bits = bits.ok_or_else(|| {
            Refusal::invalid(format!(
                "metadata {:?} does not fit its {} bits",
                field.name, field.bitwidth
            ))
        })?;
        deposit(&mut packet, to, field.bitwidth as usize, &bits);
        to += field.bitwidth as usize;
    }
    Ok(packet)
}

fn octets(header: &ControllerPacketMetadata) -> Option<usize> {
    let bits: usize = header.metadata.iter().map(|field| field.bitwidth as usize).sum();
    Some(bits.div_ceil(8)).filter(|&octets| octets <= MAX_HEADER)
}

/// `width` bits from bit `from` on, right-aligned.
fn extract(octets: &[u8], from: usize, width: usize) -> Vec<u8> {
    let mut bits = vec![0; width.div_ceil(8)];
    let shift = bits.len() * 8 - width;
    for bit in 0..width {
        if octets[(from + bit) / 8] & (0x80 >> ((from + bit) % 8)) != 0 {
            bits[(shift + bit) / 8] |= 0x80 >> ((shift + bit) % 8);
        }
    }
    bits
}

/// The way back, into zeros.
fn deposit(octets: &mut [u8], to: usize, width: usize, bits: &[u8]) {
    let shift = bits.len() * 8 - width;
    for bit in 0..width {
        if bits[(shift + bit) / 8] & (0x80 >> ((shift + bit) % 8)) != 0 {
            octets[(to + bit) / 8] |= 0x80 >> ((to + bit) % 8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn info() -> P4Info {
        let header = |name: &str, id: u32| {
            format!(
                "controller_packet_metadata {{ preamble {{ id: {id} name: \"{name}\" }}
                   metadata {{ id: 1 name: \"port\" bitwidth: 9 }} metadata {{ id: 2 name: \"reason\" bitwidth: 4 }}
                   metadata {{ id: 3 name: \"session\" bitwidth: 32 }} metadata {{ id: 4 name: \"pad\" bitwidth: 3 }} }}"
            )
        };
        P4Info::from_text(&format!("{}{}", header("packet_in", 67), header("packet_out", 68))).expect("valid")
    }

    fn metadata(values: [u64; 4]) -> Vec<v1::PacketMetadata> {
        let field = |(position, value): (usize, &u64)| v1::PacketMetadata {
            metadata_id: position as u32 + 1,
            value: value::canonical(&value.to_be_bytes()).to_vec(),
        };
        values.iter().enumerate().map(field).collect()
    }

    proptest! {
        #[test]
        fn metadata_survives_the_way_through_the_header(
            port in 0u64..512, reason in 0u64..16, session in any::<u32>(), pad in 0u64..8, payload in any::<Vec<u8>>()
        ) {
            let metadata = metadata([port, reason, session.into(), pad]);
            let sent = v1::PacketOut { payload: payload.clone(), metadata: metadata.clone() };
            let packet = packet_out(&info(), &sent).expect("valid");
            prop_assert_eq!(packet.len(), 6 + payload.len());
            prop_assert_eq!(packet_in(&info(), packet), Some(v1::PacketIn { payload, metadata }));
        }

        #[test]
        fn no_packet_and_no_message_panics(packet in any::<Vec<u8>>(), ids in any::<Vec<(u32, Vec<u8>)>>()) {
            let _ = packet_in(&info(), packet);
            let metadata = ids.into_iter().map(|(metadata_id, value)| v1::PacketMetadata { metadata_id, value });
            let _ = packet_out(&info(), &v1::PacketOut { payload: vec![1], metadata: metadata.collect() });
        }
    }

    #[test]
    fn metadata_that_is_missing_doubled_unknown_or_too_wide_is_refused() {
        let refused = |metadata: Vec<v1::PacketMetadata>| {
            packet_out(
                &info(),
                &v1::PacketOut {
                    payload: Vec::new(),
                    metadata,
                },
            )
            .expect_err("invalid")
            .message
        };
        let good = metadata([1, 2, 3, 4]);
        assert_eq!(
            refused(good[..3].to_vec()),
            "metadata \"pad\" is not given exactly once"
        );
        assert_eq!(
            refused([&good[..], &good[..1]].concat()),
            "metadata \"port\" is not given exactly once"
        );
        assert_eq!(
            refused(metadata([512, 2, 3, 4])),
            "metadata \"port\" does not fit its 9 bits"
        );
        let unknown = v1::PacketMetadata {
            metadata_id: 9,
            value: vec![1],
        };
        assert_eq!(refused([&good[..], &[unknown]].concat()), "unknown metadata id 9");
    }
}
