//! Ports on capture files, as `simple_switch --use-files` has them: `NAME_in.pcap` is read, `NAME_out.pcap` written.

use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::os::fd::RawFd;
use std::path::Path;
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::{DataLink, Endianness, PcapError, TsResolution};

use super::Port;
use crate::switch::BURST;

/// A port on two capture files.
#[derive(Debug)]
pub struct CapturePort {
    input: Option<PcapReader<BufReader<File>>>,
    output: PcapWriter<BufWriter<File>>,
    sent: u32,
}

fn failed(error: PcapError) -> io::Error {
    io::Error::other(error)
}

impl CapturePort {
    /// Opens `NAME_in.pcap` (nothing comes if it is not there) and makes `NAME_out.pcap`.
    pub fn open(name: &str) -> io::Result<Self> {
        let input = Path::new(name).with_file_name(format!("{}_in.pcap", file_name(name)));
        let output = Path::new(name).with_file_name(format!("{}_out.pcap", file_name(name)));
        let input = match File::open(&input) {
            Ok(file) => Some(PcapReader::new(BufReader::new(file)).map_err(failed)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let header = PcapHeader {
            version_major: 2,
            version_minor: 4,
            ts_correction: 0,
            ts_accuracy: 0,
            snaplen: 65535,
            datalink: DataLink::ETHERNET,
            ts_resolution: TsResolution::MicroSecond,
            endianness: Endianness::native(),
        };
        let output = PcapWriter::with_header(BufWriter::new(File::create(output)?), header).map_err(failed)?;
        Ok(Self { input, output, sent: 0 })
    }
}

fn file_name(name: &str) -> String {
    Path::new(name)
        .file_name()
        .map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}

impl Port for CapturePort {
    fn receive(&mut self, take: &mut dyn FnMut(&[u8])) -> io::Result<usize> {
        for count in 0..BURST {
            match self.input.as_mut().and_then(PcapReader::next_packet) {
                Some(packet) => take(&packet.map_err(failed)?.data),
                None => {
                    self.input = None;
                    return Ok(count);
                }
            }
        }
        Ok(BURST)
    }

    fn send(&mut self, frames: &[&[u8]]) -> io::Result<usize> {
        for frame in frames {
            // Packets are numbered by their microseconds: no clock, the same file every time.
            let time = Duration::from_micros(self.sent.into());
            self.sent += 1;
            let packet = PcapPacket::new(time, frame.len() as u32, frame);
            self.output.write_packet(&packet).map_err(failed)?;
        }
        Ok(frames.len())
    }

    fn descriptor(&self) -> Option<RawFd> {
        None
    }

    fn is_finished(&self) -> bool {
        self.input.is_none()
    }
}
