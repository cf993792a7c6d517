//! The generator's frames as capture files, for generators that replay: testpmd's `net_pcap`, pktgen-dpdk, TRex.

use super::frames::{Headers, Stamp, Template, Way};
use super::mix::{Distribution, Picks, Sizes, User};
use crate::Outcome;
use pcap_file::pcap::{PcapPacket, PcapWriter};
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Frames of each file.
const FRAMES: u64 = 10_000;

/// Writes `uplink.pcap` and `downlink.pcap`; their paths.
///
/// # Errors
/// A file cannot be written.
pub fn write(
    directory: &Path,
    headers: &Headers,
    users: &[User],
    distribution: Distribution,
    sizes: Sizes,
) -> Outcome<Vec<PathBuf>> {
    std::fs::create_dir_all(directory)?;
    let mut paths = Vec::new();
    for (way, name) in [(Way::Uplink, "uplink.pcap"), (Way::Downlink, "downlink.pcap")] {
        let path = directory.join(name);
        let mut file = PcapWriter::new(BufWriter::new(File::create(&path)?))?;
        let templates: Vec<Template> = sizes
            .cycle()
            .iter()
            .map(|&inner| Template::new(way, inner, headers))
            .collect();
        let mut picks = Picks::draw(users, distribution);
        for (number, template) in (0..FRAMES).zip(templates.iter().cycle()) {
            let mut frame = vec![0; template.len()];
            let stamp = Stamp {
                trial: 0,
                way,
                number,
                time: 0,
            };
            template.write(&mut frame, picks.next(), stamp);
            let at = Duration::from_micros(number);
            file.write_packet(&PcapPacket::new(at, template.len() as u32, &frame))?;
        }
        paths.push(path);
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::super::frames::Link;
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn captures_have_the_frames_that_would_be_sent() {
        let link = Link {
            mac: [2, 0, 0, 0, 3, 2],
            addr: Ipv4Addr::new(10, 3, 0, 2),
            upf_mac: [0xff; 6],
            upf: Ipv4Addr::new(10, 3, 0, 1),
        };
        let headers = Headers {
            n3: link,
            n6: link,
            qfi: Some(9),
            server: Ipv4Addr::new(198, 51, 100, 7),
        };
        let user = User {
            ue: Ipv4Addr::new(10, 60, 0, 1),
            teid: 77,
        };
        let directory = std::env::temp_dir().join(format!("bench-capture-{}", std::process::id()));
        let paths = write(&directory, &headers, &[user], Distribution::Uniform, Sizes::Fixed(64)).unwrap();
        let mut reader = pcap_file::pcap::PcapReader::new(File::open(&paths[0]).unwrap()).unwrap();
        let first = reader.next_packet().unwrap().unwrap();
        let gpdu = gtpu::parse_gpdu(&first.data[42..]).unwrap();
        assert_eq!((gpdu.teid, gpdu.qfi, first.data.len()), (77, Some(9), 122));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
