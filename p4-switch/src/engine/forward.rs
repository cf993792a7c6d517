//! What becomes of a packet after ingress and after egress: clones, resubmission, multicast, unicast, recirculation.

use super::packet::Packet;
use super::pipeline::Side;
use super::{Engine, Stage, Waiting, instance};
use crate::control::{Event, Replica};
use crate::program::Program;

impl Engine {
    /// Parser, ingress, and what follows from it.
    pub(crate) fn ingress<const TRACE: bool>(&mut self, program: &Program, mut packet: Packet) {
        self.machine.state.requests = Default::default();
        let length = packet.len() as u64;
        self.parse_and_verify::<TRACE>(program, &mut packet);
        if TRACE {
            self.run_traced(program, &program.ingress, &mut packet);
        } else {
            self.run_code(program, Side::Ingress, &mut packet);
        }
        self.after_ingress::<TRACE>(program, packet, length);
    }

    /// What follows from ingress. `length`: of the packet as it entered.
    pub(crate) fn after_ingress<const TRACE: bool>(&mut self, program: &Program, mut packet: Packet, length: u64) {
        let standard = &program.standard;
        let requests = self.machine.state.requests;
        if requests.failed {
            self.statistics.assertion_failed += 1;
            return self.drop::<TRACE>(packet, "assertion failed");
        }
        if let Some((session, list)) = requests.clone {
            self.clone_ingress::<TRACE>(program, &packet, session, list, length);
        }
        if let Some(list) = requests.digest {
            self.digests.sample(
                program,
                list as usize,
                &self.machine.state.phv,
                self.machine.now_ns,
                &mut self.events,
            );
        }
        if requests.resubmit != 0 {
            if TRACE && let Some(trace) = &mut self.trace {
                trace.note("resubmit");
            }
            packet.rewind();
            packet.length = length as i64;
            let phv = self.fresh_state(program, requests.resubmit, instance::RESUBMITTED, length);
            self.pending.push_back(Waiting {
                packet,
                phv,
                stage: Stage::Ingress,
            });
            return;
        }
        let group = self.machine.get(standard.mcast_grp).unwrap_or(0);
        if group != 0 {
            self.machine.set(standard.instance_type, instance::REPLICATION);
            if TRACE && let Some(trace) = &mut self.trace {
                trace.note(&format!("multicast to group {group}"));
            }
            if let Some(replicas) = self.multicast.get(&(group as u32)).cloned() {
                self.replicate::<TRACE>(program, &packet, &replicas);
            }
            self.pool.put(packet);
            return;
        }
        let port = self.machine.get(standard.egress_spec).unwrap_or(0) as u32;
        if port == self.config.drop_port {
            self.statistics.dropped += 1;
            return self.drop::<TRACE>(packet, "dropped by ingress");
        }
        self.machine.set(standard.instance_type, instance::NORMAL);
        self.enqueue::<TRACE>(program, port, packet);
    }

    pub(crate) fn parse_and_verify<const TRACE: bool>(&mut self, program: &Program, packet: &mut Packet) {
        let machine = &mut self.machine;
        let error = machine.parse::<TRACE>(program, packet, &mut self.trace);
        machine.set(program.standard.parser_error, error);
        if error != program.errors.no_error {
            self.statistics.parser_errors += 1;
            if TRACE && let Some(trace) = &mut self.trace {
                let name = program.error_names.iter().find(|(_, value)| *value == error);
                trace.note(&format!("parser error {}", name.map_or("?", |(name, _)| name)));
            }
        }
        let mut wrong = false;
        for checksum in &program.verify {
            let phv = &machine.state.phv;
            if phv[checksum.valid as usize] == 0 || !checksum.applies(phv, &program.layout, packet.ahead()) {
                continue;
            }
            let calculation = &program.calculations[checksum.calculation as usize];
            let value = calculation.output(
                &machine.state.phv,
                packet.ahead(),
                &mut machine.gather,
                &mut machine.hash_counter,
            );
            wrong |= checksum.target.load128(&machine.state.phv) as u64 != value;
        }
        machine.set(program.standard.checksum_error, wrong as u64);
    }

    /// A packet that leaves the way it is on: nothing comes of it.
    fn drop<const TRACE: bool>(&mut self, packet: Packet, why: &str) {
        if TRACE && let Some(trace) = &mut self.trace {
            trace.note(why);
        }
        self.pool.put(packet);
    }

    /// The metadata that a copy begins with: all zero but for the fields of a list.
    fn fresh_state(&mut self, program: &Program, list: u64, kind: u64, length: u64) -> Vec<u8> {
        let mut phv = self.pool.save(&program.layout.template);
        self.keep_fields(program, list, &mut phv);
        let standard = &program.standard;
        for (slot, value) in [(standard.instance_type, kind), (standard.packet_length, length)] {
            if let Some(slot) = slot {
                slot.store(&mut phv, value);
            }
        }
        phv
    }

    fn keep_fields(&self, program: &Program, list: u64, phv: &mut [u8]) {
        let Some(list) = program.field_lists.iter().find(|l| l.id == list) else {
            return;
        };
        for span in &list.spans {
            let words: Vec<u64> = span.chunks().map(|chunk| chunk.load(&self.machine.state.phv)).collect();
            span.store_words(phv, &words);
        }
    }

    /// Copies of the packet as it entered, on the way to egress.
    fn clone_ingress<const TRACE: bool>(
        &mut self,
        program: &Program,
        packet: &Packet,
        session: u64,
        list: u64,
        length: u64,
    ) {
        let Some(config) = self.clones.get(&((session & 0x7fff) as u32)).cloned() else {
            return;
        };
        if TRACE && let Some(trace) = &mut self.trace {
            trace.note(&format!("clone to session {}", config.session));
        }
        let mut copy = packet.copy(&mut self.pool);
        copy.rewind();
        copy.length = length as i64;
        copy.truncated = if config.packet_length_bytes > 0 {
            config.packet_length_bytes as usize
        } else {
            usize::MAX
        };
        let saved = self.pool.save(&self.machine.state.phv);
        let requests = self.machine.state.requests;
        self.machine.state.phv.copy_from_slice(&program.layout.template);
        self.machine
            .set(program.standard.ingress_port, packet.ingress_port as u64);
        self.parse_and_verify::<false>(program, &mut copy);
        // Headers as parsed, metadata as listed.
        let mut phv = std::mem::replace(&mut self.machine.state.phv, saved);
        let metadata = program.layout.metadata.clone();
        phv[metadata.clone()].copy_from_slice(&program.layout.template[metadata]);
        self.keep_fields(program, list, &mut phv);
        let original = std::mem::replace(&mut self.machine.state.phv, phv);
        self.machine
            .set(program.standard.instance_type, instance::INGRESS_CLONE);
        self.replicate::<TRACE>(program, &copy, &config.replicas);
        self.pool.put(copy);
        let phv = std::mem::replace(&mut self.machine.state.phv, original);
        self.pool.put_state(phv);
        self.machine.state.requests = requests;
    }

    /// A copy for each replica, with the packet state at hand.
    fn replicate<const TRACE: bool>(&mut self, program: &Program, packet: &Packet, replicas: &[Replica]) {
        for replica in replicas {
            self.machine.set(program.standard.egress_rid, replica.instance as u64);
            let copy = packet.copy(&mut self.pool);
            if !self.queues.immediate(replica.port) {
                self.enqueue_late(program, replica.port, copy);
                continue;
            }
            let phv = self.enqueued_state(program, replica.port);
            if let Some(phv) = phv {
                self.pending.push_back(Waiting {
                    packet: copy,
                    phv,
                    stage: Stage::Egress { port: replica.port },
                });
            } else {
                self.pool.put(copy);
            }
        }
    }

    /// The packet state as it leaves a queue at once; none if the priority is beyond the queues.
    fn enqueued_state(&mut self, program: &Program, _port: u32) -> Option<Vec<u8>> {
        if !self.mark_enqueued(program) {
            return None;
        }
        Some(self.pool.save(&self.machine.state.phv))
    }

    /// Queueing metadata of a packet that does not wait. False if its priority is beyond the queues there are.
    fn mark_enqueued(&mut self, program: &Program) -> bool {
        let standard = &program.standard;
        let queue = self.machine.get(standard.priority).unwrap_or(0);
        if queue as usize >= self.config.priority_queues {
            self.statistics.queue_full += 1;
            return false;
        }
        let now = self.machine.now_ns / 1000;
        self.machine.set(standard.enq_timestamp, now);
        self.machine.set(standard.enq_qdepth, 0);
        self.machine.set(standard.deq_qdepth, 0);
        self.machine.set(standard.qid, queue);
        true
    }

    /// On to a port: at once if its queues have no rate and nothing else waits, otherwise in turn.
    pub(crate) fn enqueue<const TRACE: bool>(&mut self, program: &Program, port: u32, packet: Packet) {
        if !self.queues.immediate(port) {
            return self.enqueue_late(program, port, packet);
        }
        if !self.mark_enqueued(program) {
            return self.drop::<TRACE>(packet, "priority beyond the queues");
        }
        if self.pending.is_empty() {
            self.egress::<TRACE>(program, port, packet);
        } else {
            let phv = self.pool.save(&self.machine.state.phv);
            self.pending.push_back(Waiting {
                packet,
                phv,
                stage: Stage::Egress { port },
            });
        }
    }

    /// Into a queue with a rate.
    fn enqueue_late(&mut self, program: &Program, port: u32, mut packet: Packet) {
        let standard = &program.standard;
        let queue = self.machine.get(standard.priority).unwrap_or(0) as usize;
        if queue >= self.config.priority_queues {
            self.statistics.queue_full += 1;
            return self.pool.put(packet);
        }
        let now = self.machine.now_ns;
        packet.enqueued_ns = now;
        let depth = self.queues.depth_of(port, queue);
        self.machine.set(standard.enq_timestamp, now / 1000);
        self.machine.set(standard.enq_qdepth, depth as u64);
        let phv = self.pool.save(&self.machine.state.phv);
        let waiting = Waiting {
            packet,
            phv,
            stage: Stage::Egress { port },
        };
        if let Err(waiting) = self.queues.push(port, queue, waiting) {
            self.statistics.queue_full += 1;
            self.pool.put(waiting.packet);
            self.pool.put_state(waiting.phv);
        }
    }

    /// Egress, deparser, and what follows.
    pub(crate) fn egress<const TRACE: bool>(&mut self, program: &Program, port: u32, mut packet: Packet) {
        let standard = &program.standard;
        let now = self.machine.now_ns;
        let waited = if packet.enqueued_ns == 0 {
            0
        } else {
            now.saturating_sub(packet.enqueued_ns) / 1000
        };
        packet.enqueued_ns = 0;
        let machine = &mut self.machine;
        machine.state.requests = Default::default();
        machine.set(standard.egress_timestamp, now / 1000);
        machine.set(standard.deq_timedelta, waited);
        machine.set(standard.egress_port, port as u64);
        // Anything but the drop port: only egress itself drops here.
        machine.set(standard.egress_spec, self.config.drop_port as u64 + 1);
        machine.set(standard.packet_length, packet.length as u64);
        if TRACE && let Some(trace) = &mut self.trace {
            trace.egress(port);
        }
        if TRACE {
            self.run_traced(program, &program.egress, &mut packet);
        } else {
            self.run_code(program, Side::Egress, &mut packet);
        }
        let requests = self.machine.state.requests;
        if requests.failed {
            self.statistics.assertion_failed += 1;
            return self.drop::<TRACE>(packet, "assertion failed");
        }
        if let Some((session, list)) = requests.clone {
            self.clone_egress::<TRACE>(program, &packet, session, list);
        }
        if self.machine.get(standard.egress_spec) == Some(self.config.drop_port as u64) {
            self.statistics.dropped += 1;
            return self.drop::<TRACE>(packet, "dropped by egress");
        }
        self.machine.deparse(program, &mut packet);
        if requests.recirculate != 0 {
            if TRACE && let Some(trace) = &mut self.trace {
                trace.note("recirculate");
            }
            let length = packet.len() as u64;
            packet.rewind();
            packet.length = length as i64;
            packet.ingress_length = length as u32;
            let phv = self.fresh_state(program, requests.recirculate, instance::RECIRCULATED, length);
            self.pending.push_back(Waiting {
                packet,
                phv,
                stage: Stage::Ingress,
            });
            return;
        }
        if packet.truncated < packet.len() {
            let longest = packet.truncated;
            packet.truncate(longest);
        }
        self.statistics.sent += 1;
        if TRACE && let Some(trace) = &mut self.trace {
            trace.sent(port, packet.bytes());
        }
        if self.config.cpu_port == Some(port) {
            self.events.push(Event::PacketIn(packet.bytes().to_vec()));
            self.pool.put(packet);
        } else {
            self.out.push((port, packet));
        }
    }

    /// Copies of the packet as egress leaves it.
    fn clone_egress<const TRACE: bool>(&mut self, program: &Program, packet: &Packet, session: u64, list: u64) {
        let Some(config) = self.clones.get(&((session & 0x7fff) as u32)).cloned() else {
            return;
        };
        if TRACE && let Some(trace) = &mut self.trace {
            trace.note(&format!("clone to session {}", config.session));
        }
        let mut phv = self.pool.save(&self.machine.state.phv);
        let metadata = program.layout.metadata.clone();
        phv[metadata.clone()].copy_from_slice(&program.layout.template[metadata]);
        self.keep_fields(program, list, &mut phv);
        let original = std::mem::replace(&mut self.machine.state.phv, phv);
        self.machine.set(program.standard.instance_type, instance::EGRESS_CLONE);
        let mut copy = packet.copy(&mut self.pool);
        copy.truncated = if config.packet_length_bytes > 0 {
            config.packet_length_bytes as usize
        } else {
            usize::MAX
        };
        self.replicate::<TRACE>(program, &copy, &config.replicas);
        self.pool.put(copy);
        let phv = std::mem::replace(&mut self.machine.state.phv, original);
        self.pool.put_state(phv);
    }
}
