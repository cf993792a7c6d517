//! The command line: that of `simple_switch_grpc`, so that scripts written for it work unchanged.
//!
//! BMv2 has two parsers, the second for what follows `--`. Here one parser knows all options, and the first `--` is
//! taken out, so that either side of it will do. Options that make no sense here are accepted and said to be ignored;
//! those without which a script would not get what it asks for are refused.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use p4_switch::PortRate;

/// The newest format of BMv2's JSON that is read; all of the same major version are.
pub const JSON_VERSION: &str = "2.23";

/// An embedded P4 switch: runs p4c's BMv2 JSON and serves P4Runtime, with simple_switch_grpc's options.
#[derive(Debug, Parser)]
#[command(name = "p4-switch", version, disable_version_flag = true, infer_long_args = true)]
#[command(after_help = "p4-switch stf PROGRAM.json TEST.stf runs one of p4c's STF tests.")]
pub struct Options {
    /// p4c's BMv2 JSON
    pub program: Option<PathBuf>,
    /// Attach a network interface as a port; repeat for more
    #[arg(short, long, value_name = "PORT@INTERFACE", value_parser = parse_interface)]
    pub interface: Vec<Interface>,
    /// Write what every port receives and sends to capture files in a directory ("." without one)
    #[arg(long, value_name = "DIRECTORY", num_args = 0..=1, require_equals = true, default_missing_value = ".")]
    pub pcap: Option<PathBuf>,
    /// Read packets from INTERFACE_in.pcap and write them to INTERFACE_out.pcap; start after so many seconds
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub use_files: Option<i64>,
    /// Device id in P4Runtime; without it, the first one that a client asks for
    #[arg(long)]
    pub device_id: Option<u64>,
    /// Start without a program; P4Runtime brings one
    #[arg(long)]
    pub no_p4: bool,
    /// Log to stdout
    #[arg(long, conflicts_with = "log_file")]
    pub log_console: bool,
    /// Log to a file
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// How much is logged
    #[arg(short = 'L', long, default_value = "trace")]
    pub log_level: LogLevel,
    /// Display version information
    #[arg(short, long, action = clap::ArgAction::Version)]
    pub version: Option<bool>,
    /// Display the newest version of BMv2's JSON that is read
    #[arg(long)]
    pub json_version: bool,
    /// Most ports
    #[arg(long, default_value_t = 512)]
    pub max_port_count: usize,

    /// P4Runtime server's address
    #[arg(long, value_name = "HOST:PORT", default_value = "0.0.0.0:9559", help_heading = TARGET)]
    pub grpc_server_addr: String,
    /// Number of the CPU port, for packet-in and packet-out
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), help_heading = TARGET)]
    pub cpu_port: Option<u32>,
    /// Number of the drop port
    #[arg(long, default_value_t = 511, help_heading = TARGET)]
    pub drop_port: u32,
    /// Priority queues for each port
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64), help_heading = TARGET)]
    pub priority_queues: u32,
    /// Rate of a port on the wire in Mbit/s, which its queues share strictly by priority; repeat for more. BMv2 has no such
    /// option
    #[arg(long, value_name = "PORT@MBPS", value_parser = parse_port_rate, help_heading = TARGET)]
    pub port_rate: Vec<(u32, u64)>,
    /// Packets that may wait in each queue. BMv2 has no such option
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536), help_heading = TARGET)]
    pub queue_depth: u32,
    /// TLS for P4Runtime: not built in, refused
    #[arg(long, help_heading = TARGET)]
    pub grpc_server_ssl: bool,

    /// Ignored: there is no Thrift server
    #[arg(long, help_heading = IGNORED)]
    pub thrift_port: Option<String>,
    /// Ignored: there is no nanomsg
    #[arg(long, help_heading = IGNORED)]
    pub nanolog: Option<String>,
    /// Ignored: there is no nanomsg
    #[arg(long, help_heading = IGNORED)]
    pub notifications_addr: Option<String>,
    /// Ignored: there is no debugger
    #[arg(long, help_heading = IGNORED)]
    pub debugger: bool,
    /// Ignored: there is no debugger
    #[arg(long, help_heading = IGNORED)]
    pub debugger_addr: Option<String>,
    /// Ignored: packets are not dumped to the log
    #[arg(long, help_heading = IGNORED)]
    pub dump_packet_data: Option<String>,
    /// Ignored: the log is always flushed
    #[arg(long, help_heading = IGNORED)]
    pub log_flush: bool,
    /// Ignored: log files are not rotated
    #[arg(long, help_heading = IGNORED)]
    pub log_file_max_size: Option<String>,
    /// Ignored: log files are not rotated
    #[arg(long, help_heading = IGNORED)]
    pub log_file_max_files: Option<String>,
    /// Ignored: programs are always swapped at once
    #[arg(long, help_heading = IGNORED)]
    pub disable_swap: bool,
    /// Ignored: there is no limit
    #[arg(long, help_heading = IGNORED)]
    pub max_mc_groups: Option<String>,
    /// Ignored: there is no limit
    #[arg(long, help_heading = IGNORED)]
    pub max_l1_entries: Option<String>,
    /// Ignored: there is no limit
    #[arg(long, help_heading = IGNORED)]
    pub max_l2_entries: Option<String>,
    /// Ignored: there is no TLS
    #[arg(long, help_heading = IGNORED)]
    pub grpc_server_cacert: Option<String>,
    /// Ignored: there is no TLS
    #[arg(long, help_heading = IGNORED)]
    pub grpc_server_cert: Option<String>,
    /// Ignored: there is no TLS
    #[arg(long, help_heading = IGNORED)]
    pub grpc_server_key: Option<String>,
    /// Ignored: there is no TLS
    #[arg(long, help_heading = IGNORED)]
    pub grpc_server_with_client_auth: bool,

    /// Refused: there is no nanomsg
    #[arg(long, hide = true)]
    packet_in: Option<String>,
    /// Refused: state is not kept in files
    #[arg(long, hide = true)]
    restore_state: Option<String>,
    /// Refused: packets over gRPC are not supported
    #[arg(long, hide = true)]
    dp_grpc_server_addr: Option<String>,
}

const TARGET: &str = "Options of the target (with simple_switch_grpc after --)";
const IGNORED: &str = "Accepted for simple_switch_grpc's scripts, and ignored";

/// A port and where it is attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Number of the port.
    pub port: u32,
    /// Name of a network interface, or of capture files.
    pub name: String,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// What every packet meets.
    Trace,
    /// More than `info`.
    Debug,
    /// What changes.
    Info,
    /// What may be wrong.
    Warn,
    /// What is wrong.
    Error,
    /// Nothing.
    Off,
}

fn parse_interface(text: &str) -> Result<Interface, String> {
    let (port, name) = text
        .split_once('@')
        .ok_or("PORT@INTERFACE is expected, as in 1@veth1")?;
    let port = port.parse().map_err(|_| format!("{port:?} is not a port number"))?;
    if name.is_empty() {
        return Err("the name of the interface is missing".into());
    }
    Ok(Interface {
        port,
        name: name.to_owned(),
    })
}

fn parse_port_rate(text: &str) -> Result<(u32, u64), String> {
    let expected = || format!("{text:?}: PORT@MBPS is expected, as in 1@100: 1 to 400000 Mbit/s");
    let (port, rate) = text.split_once('@').ok_or_else(expected)?;
    let rate = rate.parse().ok().filter(|rate| (1..=400_000).contains(rate));
    Ok((port.parse().map_err(|_| expected())?, rate.ok_or_else(expected)?))
}

impl Options {
    /// From the words after the program's name.
    pub fn parse_words(words: impl IntoIterator<Item = String>) -> Result<Options, clap::Error> {
        let mut separated = false;
        let words = words.into_iter().filter(|word| {
            let first = word == "--" && !separated;
            separated |= first;
            !first
        });
        let options = Options::try_parse_from(std::iter::once("p4-switch".to_owned()).chain(words))?;
        options.check()?;
        Ok(options)
    }

    fn check(&self) -> Result<(), clap::Error> {
        let refuse = |problem: &str| {
            let kind = clap::error::ErrorKind::ValueValidation;
            Err(clap::Error::raw(kind, format!("{problem}\n")))
        };
        if self.program.is_none() && !self.no_p4 && !self.json_version {
            return refuse("give a BMv2 JSON file, or --no-p4 to wait for P4Runtime to bring one");
        }
        if self.grpc_server_ssl {
            return refuse("--grpc-server-ssl: TLS is not built in; put a proxy in front, or use loopback");
        }
        if self.packet_in.is_some() {
            return refuse("--packet-in: there is no nanomsg; use --interface or --use-files");
        }
        if self.restore_state.is_some() {
            return refuse("--restore-state: state is not kept in files; write it again over P4Runtime");
        }
        if self.dp_grpc_server_addr.is_some() {
            return refuse("--dp-grpc-server-addr: packets over gRPC are not supported; use --interface");
        }
        if self.cpu_port == Some(self.drop_port) {
            return refuse("--cpu-port and --drop-port are the same");
        }
        if let Some(taken) = self
            .interface
            .iter()
            .find(|interface| Some(interface.port) == self.cpu_port)
        {
            return refuse(&format!(
                "port {} is the CPU port; {} cannot be attached to it",
                taken.port, taken.name
            ));
        }
        let ports = self.interface.iter().map(|interface| interface.port);
        if let Some(twice) = ports
            .clone()
            .enumerate()
            .find(|(at, port)| ports.clone().take(*at).any(|p| p == *port))
        {
            return refuse(&format!("port {} is attached twice", twice.1));
        }
        if self.interface.len() > self.max_port_count {
            return refuse("there are more interfaces than --max-port-count");
        }
        Ok(())
    }

    /// The rates of its ports. A millisecond may be caught up: a thread that shares its CPU comes by late.
    pub fn port_rates(&self) -> BTreeMap<u32, PortRate> {
        let rate = |mbps: u64| PortRate {
            bits_per_second: mbps * 1_000_000,
            burst_ns: 1_000_000,
        };
        self.port_rate.iter().map(|(port, mbps)| (*port, rate(*mbps))).collect()
    }

    /// Where to listen.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        let mut addresses = self.grpc_server_addr.to_socket_addrs()?;
        addresses
            .next()
            .ok_or_else(|| std::io::Error::other(format!("{} is no address", self.grpc_server_addr)))
    }

    /// The options that were given and do nothing here, with the reason.
    pub fn ignored(&self) -> Vec<&'static str> {
        let given = [
            (self.thrift_port.is_some(), "--thrift-port: there is no Thrift server"),
            (self.nanolog.is_some(), "--nanolog: there is no nanomsg"),
            (
                self.notifications_addr.is_some(),
                "--notifications-addr: there is no nanomsg",
            ),
            (
                self.debugger || self.debugger_addr.is_some(),
                "--debugger: there is no debugger",
            ),
            (
                self.dump_packet_data.is_some(),
                "--dump-packet-data: packets are not dumped to the log",
            ),
            (
                self.log_file_max_size.is_some(),
                "--log-file-max-size: log files are not rotated",
            ),
            (
                self.log_file_max_files.is_some(),
                "--log-file-max-files: log files are not rotated",
            ),
            (self.max_mc_groups.is_some(), "--max-mc-groups: there is no limit"),
            (self.max_l1_entries.is_some(), "--max-l1-entries: there is no limit"),
            (self.max_l2_entries.is_some(), "--max-l2-entries: there is no limit"),
            (
                self.grpc_server_cacert.is_some() || self.grpc_server_cert.is_some() || self.grpc_server_key.is_some(),
                "certificates: there is no TLS",
            ),
            (self.no_p4 && self.program.is_some(), "the JSON file: --no-p4 is given"),
        ];
        given
            .iter()
            .filter(|(is_given, _)| *is_given)
            .map(|(_, what)| *what)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, clap::Error> {
        Options::parse_words(line.split_whitespace().map(str::to_owned))
    }

    fn refused(line: &str) -> String {
        parse(line).expect_err("not a valid command line").to_string()
    }

    #[test]
    fn a_mininet_scripts_command_line_is_understood() {
        let line = "-i 1@s1-eth1 -i 2@s1-eth2 --pcap=logs --nanolog ipc:///tmp/bm-0-log.ipc --device-id 3 program.json \
                    --log-console --thrift-port 9090 -L warn -- --grpc-server-addr 127.0.0.1:50051 --cpu-port 255";
        let options = parse(line).expect("valid");
        assert_eq!(
            options.interface[1],
            Interface {
                port: 2,
                name: "s1-eth2".into()
            }
        );
        assert_eq!(options.program, Some("program.json".into()));
        assert_eq!(
            (options.device_id, options.cpu_port, options.drop_port),
            (Some(3), Some(255), 511)
        );
        assert_eq!(options.grpc_server_addr, "127.0.0.1:50051");
        assert_eq!(options.pcap, Some("logs".into()));
        assert!(options.log_console && options.log_level == LogLevel::Warn);
        assert_eq!(options.ignored().len(), 2, "{:?}", options.ignored());
    }

    #[test]
    fn p4cs_ptf_runners_command_line_is_understood() {
        let line = "--thrift-port 9091 --device-id 0 --log-file switch.log --log-flush -i 0@br_0 -i 1@br_1 --no-p4 \
                    -- --grpc-server-addr localhost:28000";
        let options = parse(line).expect("valid");
        assert!(options.no_p4 && options.program.is_none());
        assert_eq!(options.device_id, Some(0));
        assert!(options.address().expect("loopback").ip().is_loopback());
    }

    #[test]
    fn pcap_without_a_directory_does_not_take_the_program() {
        let options = parse("--pcap program.json").expect("valid");
        assert_eq!(
            (options.pcap, options.program),
            (Some(".".into()), Some("program.json".into()))
        );
    }

    #[test]
    fn what_cannot_be_had_is_refused_with_a_reason() {
        assert!(refused("-i 1@a").contains("--no-p4"));
        assert!(refused("x.json -i veth0").contains("PORT@INTERFACE"));
        assert!(refused("x.json -i 1@a -i 1@b").contains("attached twice"));
        assert!(refused("x.json -- --cpu-port 0").contains("cpu-port"));
        assert!(refused("x.json -i 5@a -- --cpu-port 5").contains("CPU port"));
        assert!(refused("x.json -- --grpc-server-ssl").contains("TLS"));
        assert!(refused("x.json --port-rate 1@0").contains("PORT@MBPS"));
        assert!(refused("x.json --log-console --log-file f").contains("cannot be used with"));
        assert!(refused("x.json --packet-in ipc://x").contains("nanomsg"));
    }
}
