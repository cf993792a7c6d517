#!/usr/bin/env python3
"""An SMF of scapy's PFCP layer against a running UPF: an encoder and decoder that shares no code with this project.

    pfcp_client.py --upf 127.0.0.1:8805 --local 127.0.0.9

Each check prints one line. The first mismatch ends the run with exit code 1, after the packet that did not fit;
the last line is always "N passed, N failed". scapy's layer is of release 15 (TS 29.244 15.6.0), so that this also
shows that a UPF of a later release takes the shorter IEs of an earlier SMF (Apply Action of one octet, Reporting
Triggers of two).
"""

import argparse
import logging
import socket
import struct
import sys
import time

logging.getLogger("scapy.runtime").setLevel(logging.ERROR)

from scapy.contrib import pfcp as p  # noqa: E402

REQUEST_ACCEPTED = 1
SESSION_CONTEXT_NOT_FOUND = 65
MANDATORY_IE_MISSING = 66
NO_ESTABLISHED_ASSOCIATION = 72

# Octets 5, 6, 7 of UP Function Features; the third came after scapy's release.
UEIP_IN_THIRD_OCTET = 0x04


class Mismatch(Exception):
    """What was expected and what was found."""


class Checks:
    """Counts what held; stops at the first that did not."""

    def __init__(self):
        self.passed = 0
        self.failed = 0

    def that(self, holds, what, found=""):
        if holds:
            self.passed += 1
            print(f"ok   {what}")
            return
        self.failed += 1
        raise Mismatch(f"{what}: found {found}")

    def equal(self, found, expected, what):
        self.that(found == expected, what, f"{found!r}, expected {expected!r}")


class Smf:
    """One UDP socket: requests with retransmission, and answers to the UPF's heartbeats while it waits."""

    def __init__(self, upf, local, timeout):
        self.upf, self.local, self.timeout = upf, local, timeout
        self.recovery = int(time.time()) + 2208988800 & 0xFFFFFFFF
        self.sequence = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((local, 0))

    def node_id(self):
        return p.IE_NodeId(id_type=0, ipv4=self.local)

    def f_seid(self, seid):
        return p.IE_FSEID(v4=1, seid=seid, ipv4=self.local)

    def build(self, message, seid=None):
        """The octets of a message with the next sequence number; `seid` gives it the session header."""
        self.sequence += 1
        if seid is None:
            return bytes(p.PFCP(version=1, S=0, seq=self.sequence) / message)
        return bytes(p.PFCP(version=1, S=1, seid=seid, seq=self.sequence) / message)

    def exchange(self, octets):
        """Sends octets until a response with their sequence number comes; the response's octets."""
        sequence = p.PFCP(octets).seq
        for _ in range(3):
            self.socket.sendto(octets, self.upf)
            deadline = time.monotonic() + self.timeout
            while (left := deadline - time.monotonic()) > 0:
                self.socket.settimeout(left)
                try:
                    answer, sender = self.socket.recvfrom(65535)
                except TimeoutError:
                    break
                header = p.PFCP(answer)
                if header.message_type == 1:
                    self.answer_heartbeat(header.seq, sender)
                elif header.seq == sequence:
                    return answer
        raise Mismatch(f"no response from {self.upf[0]}:{self.upf[1]} to {octets.hex()}")

    def answer_heartbeat(self, sequence, sender):
        response = p.PFCPHeartbeatResponse(IE_list=[p.IE_RecoveryTimeStamp(timestamp=self.recovery)])
        self.socket.sendto(bytes(p.PFCP(version=1, S=0, seq=sequence) / response), sender)

    def ask(self, message, seid=None):
        return p.PFCP(self.exchange(self.build(message, seid)))


def find_all(ies, cls):
    return [ie for ie in ies if isinstance(ie, cls)]


def find(ies, cls, where="message"):
    found = find_all(ies, cls)
    if not found:
        raise Mismatch(f"expected {cls.__name__} in {where}, found {[type(ie).__name__ for ie in ies]}")
    return found[0]


def ies_of(answer, cls):
    if cls not in answer:
        raise Mismatch(f"expected {cls.__name__}, found {answer.summary()} {bytes(answer).hex()}")
    return answer[cls].IE_list


# --- the rules of a session ---------------------------------------------------------------------------------------


def choose_f_teid(choose_id=1):
    return p.IE_FTEID(CH=1, V4=1, CHID=1, choose_id=choose_id)


def uplink_pdr(pdr_id=1, precedence=200, sdf=None):
    pdi = [p.IE_SourceInterface(interface=0), choose_f_teid(), p.IE_UE_IP_Address(V4=1, ipv4=UE)]
    if sdf:
        pdi.append(p.IE_SDF_Filter(FD=1, flow_description=sdf))
    return [
        p.IE_PDR_Id(id=pdr_id),
        p.IE_Precedence(precedence=precedence),
        p.IE_PDI(IE_list=pdi),
        p.IE_OuterHeaderRemoval(header=0),
        p.IE_FAR_Id(id=1),
        p.IE_URR_Id(id=1),
        p.IE_QER_Id(id=1),
    ]


def downlink_pdr(pdr_id=2, precedence=200):
    pdi = [p.IE_SourceInterface(interface=1), p.IE_UE_IP_Address(SD=1, V4=1, ipv4=UE)]
    return [
        p.IE_PDR_Id(id=pdr_id),
        p.IE_Precedence(precedence=precedence),
        p.IE_PDI(IE_list=pdi),
        p.IE_FAR_Id(id=2),
        p.IE_URR_Id(id=1),
        p.IE_QER_Id(id=1),
    ]


def uplink_far():
    return [
        p.IE_FAR_Id(id=1),
        p.IE_ApplyAction(FORW=1),
        p.IE_ForwardingParameters(IE_list=[p.IE_DestinationInterface(interface=1)]),
    ]


def tunnel(teid, gnb):
    return p.IE_OuterHeaderCreation(GTPUUDPIPV4=1, TEID=teid, ipv4=gnb)


def downlink_far():
    parameters = [p.IE_DestinationInterface(interface=0), tunnel(0x1001, GNB)]
    return [p.IE_FAR_Id(id=2), p.IE_ApplyAction(FORW=1), p.IE_ForwardingParameters(IE_list=parameters)]


def qer():
    return [p.IE_QER_Id(id=1), p.IE_GateStatus(ul=0, dl=0), p.IE_MBR(ul=50000, dl=100000), p.IE_QFI(QFI=9)]


def urr():
    return [p.IE_URR_Id(id=1), p.IE_MeasurementMethod(VOLUM=1, DURAT=1), p.IE_ReportingTriggers()]


def establishment(smf, cp_seid, **replaced):
    """A session with an SDF filter, CHOOSE, a QER and a URR; `replaced` swaps or (None) leaves out a part."""
    parts = {
        "node_id": smf.node_id(),
        "f_seid": smf.f_seid(cp_seid),
        "sdf_pdr": p.IE_CreatePDR(IE_list=uplink_pdr(3, 100, "permit out 17 from 198.51.100.0/24 53 to assigned")),
        "uplink_pdr": p.IE_CreatePDR(IE_list=uplink_pdr()),
        "downlink_pdr": p.IE_CreatePDR(IE_list=downlink_pdr()),
        "uplink_far": p.IE_CreateFAR(IE_list=uplink_far()),
        "downlink_far": p.IE_CreateFAR(IE_list=downlink_far()),
        "urr": p.IE_CreateURR(IE_list=urr()),
        "qer": p.IE_CreateQER(IE_list=qer()),
    } | replaced
    return p.PFCPSessionEstablishmentRequest(IE_list=[ie for ie in parts.values() if ie is not None])


def without(ies, *classes):
    return [ie for ie in ies if not isinstance(ie, classes)]


def modification(*ies):
    return p.PFCPSessionModificationRequest(IE_list=list(ies))


UE = "10.60.250.1"
GNB = "192.0.2.1"
CP_SEID = 0x5CA97 << 32 | 1


# --- what must hold -----------------------------------------------------------------------------------------------


def cause_of(answer, cls):
    return find(ies_of(answer, cls), p.IE_Cause, cls.__name__).cause


def check_before_association(smf, check):
    answer = smf.ask(p.PFCPHeartbeatRequest(IE_list=[p.IE_RecoveryTimeStamp(timestamp=smf.recovery)]))
    recovery = find(ies_of(answer, p.PFCPHeartbeatResponse), p.IE_RecoveryTimeStamp).timestamp
    check.that(recovery != 0, "a heartbeat is answered before any association")

    answer = smf.ask(establishment(smf, CP_SEID), seid=0)
    cause = cause_of(answer, p.PFCPSessionEstablishmentResponse)
    check.equal(cause, NO_ESTABLISHED_ASSOCIATION, "a session without an association is refused with cause 72")
    check.equal(answer.seid, CP_SEID, "a refused establishment is addressed to the CP SEID")
    return recovery


def check_version(smf, check):
    heartbeat = bytearray(smf.build(p.PFCPHeartbeatRequest(IE_list=[p.IE_RecoveryTimeStamp(timestamp=1)])))
    heartbeat[0] = heartbeat[0] & 0x1F | 2 << 5
    answer = p.PFCP(smf.exchange(bytes(heartbeat)))
    check.equal(answer.message_type, 11, "PFCP version 2 is answered with Version Not Supported Response")


def check_association(smf, check, recovery):
    request = p.PFCPAssociationSetupRequest(IE_list=[smf.node_id()])
    answer = smf.ask(request)
    ies = ies_of(answer, p.PFCPAssociationSetupResponse)
    check.equal(find(ies, p.IE_Cause).cause, MANDATORY_IE_MISSING, "an association without time stamp has cause 66")
    check.equal(find(ies, p.IE_OffendingIE).type, 96, "... and names IE 96")

    request = p.PFCPAssociationSetupRequest(
        IE_list=[smf.node_id(), p.IE_RecoveryTimeStamp(timestamp=smf.recovery), p.IE_CPFunctionFeatures()]
    )
    answer = smf.ask(request)
    ies = ies_of(answer, p.PFCPAssociationSetupResponse)
    check.equal(answer.S, 0, "a node message has no SEID")
    check.equal(find(ies, p.IE_Cause).cause, REQUEST_ACCEPTED, "the association is accepted")
    find(ies, p.IE_NodeId)
    found = find(ies, p.IE_RecoveryTimeStamp).timestamp
    check.equal(found, recovery, "heartbeat and association tell the same recovery time stamp")
    features = find(ies, p.IE_UPFunctionFeatures)
    check.equal(features.FTUP, 1, "the UPF allocates F-TEIDs (FTUP)")
    check.equal(features.EMPU, 1, "the UPF sends End Markers (EMPU)")
    return bool(features.extra_data and features.extra_data[0] & UEIP_IN_THIRD_OCTET)


def check_establishment(smf, check):
    request = smf.build(establishment(smf, CP_SEID), seid=0)
    octets = smf.exchange(request)
    answer = p.PFCP(octets)
    ies = ies_of(answer, p.PFCPSessionEstablishmentResponse)
    check.equal(find(ies, p.IE_Cause).cause, REQUEST_ACCEPTED, "a session with CHOOSE, SDF filter, QER, URR is accepted")
    check.equal(answer.seid, CP_SEID, "the response is addressed to the CP SEID")
    find(ies, p.IE_NodeId)
    up_seid = find(ies, p.IE_FSEID).seid
    check.that(up_seid != 0, "the UPF's SEID is not zero", up_seid)
    f_teids = {}
    for created in find_all(ies, p.IE_CreatedPDR):
        for f_teid in find_all(created.IE_list, p.IE_FTEID):
            f_teids[find(created.IE_list, p.IE_PDR_Id).id] = f_teid
    check.equal(sorted(f_teids), [1, 3], "an F-TEID was created for each of the two uplink PDRs")
    check.that(f_teids[1].TEID != 0 and f_teids[1].V4 == 1, "it has a TEID and an IPv4 address", f_teids[1])
    same = (f_teids[1].TEID, f_teids[1].ipv4) == (f_teids[3].TEID, f_teids[3].ipv4)
    check.that(same, "PDRs with the same CHOOSE ID share the F-TEID", (f_teids[1], f_teids[3]))
    check.equal(smf.exchange(request), octets, "the same request again gets the same response")
    return up_seid


def check_modification(smf, check, up_seid):
    def accepted(message, what):
        answer = smf.ask(message, up_seid)
        ies = ies_of(answer, p.PFCPSessionModificationResponse)
        found = find(ies, p.IE_Cause).cause
        check.equal(found, REQUEST_ACCEPTED, what)
        check.equal(answer.seid, CP_SEID, "... in a response to the CP SEID")
        return ies

    parameters = p.IE_UpdateForwardingParameters(IE_list=[tunnel(0x2002, "192.0.2.2"), p.IE_PFCPSMReqFlags(SNDEM=1)])
    accepted(
        modification(p.IE_UpdateFAR(IE_list=[p.IE_FAR_Id(id=2), p.IE_ApplyAction(FORW=1), parameters])),
        "a handover (Update FAR with End Marker) is accepted",
    )
    accepted(
        modification(p.IE_UpdateFAR(IE_list=[p.IE_FAR_Id(id=2), p.IE_ApplyAction(BUFF=1, NOCP=1)])),
        "an idle UE (BUFF, NOCP) is accepted",
    )
    accepted(
        modification(p.IE_UpdateFAR(IE_list=[p.IE_FAR_Id(id=2), p.IE_ApplyAction(FORW=1)])),
        "an active UE (FORW) is accepted",
    )
    accepted(
        modification(p.IE_UpdateQER(IE_list=[p.IE_QER_Id(id=1), p.IE_GateStatus(ul=1, dl=0)])),
        "closing the uplink gate is accepted",
    )
    accepted(
        modification(p.IE_UpdateQER(IE_list=[p.IE_QER_Id(id=1), p.IE_MBR(ul=1000, dl=2000)])),
        "changing the maximum bit rate is accepted",
    )
    accepted(
        modification(p.IE_UpdatePDR(IE_list=[p.IE_PDR_Id(id=3), p.IE_Precedence(precedence=50)])),
        "changing a precedence is accepted",
    )
    ies = accepted(modification(p.IE_QueryURR(IE_list=[p.IE_URR_Id(id=1)])), "a usage query is accepted")
    usage = find(ies, p.IE_UsageReport_SMR).IE_list
    check.equal(find(usage, p.IE_URR_Id).id, 1, "... and answered with the usage of the URR asked for")
    check.equal(find(usage, p.IE_UsageReportTrigger).IMMER, 1, "... as an immediate report")
    accepted(
        modification(p.IE_RemovePDR(IE_list=[p.IE_PDR_Id(id=3)])),
        "removing a PDR is accepted",
    )


def check_refused_modifications(smf, check, up_seid):
    for what, message in {
        "Update FAR of a FAR that does not exist": modification(
            p.IE_UpdateFAR(IE_list=[p.IE_FAR_Id(id=99), p.IE_ApplyAction(DROP=1)])
        ),
        "Update QER of a QER that does not exist": modification(
            p.IE_UpdateQER(IE_list=[p.IE_QER_Id(id=99), p.IE_GateStatus()])
        ),
        "Remove PDR of a PDR that does not exist": modification(p.IE_RemovePDR(IE_list=[p.IE_PDR_Id(id=99)])),
        "a FAR removed under a PDR that refers to it": modification(p.IE_RemoveFAR(IE_list=[p.IE_FAR_Id(id=2)])),
    }.items():
        cause = cause_of(smf.ask(message, up_seid), p.PFCPSessionModificationResponse)
        check.that(cause >= 64, f"{what} is refused", f"cause {cause}")
    answer = smf.ask(modification(p.IE_UpdateFAR(IE_list=[p.IE_ApplyAction(DROP=1)])), up_seid)
    expect_missing(check, ies_of(answer, p.PFCPSessionModificationResponse), 108, "Update FAR without FAR ID")


def expect_missing(check, ies, offending, what):
    check.equal(find(ies, p.IE_Cause).cause, MANDATORY_IE_MISSING, f"{what} is refused with cause 66")
    check.equal(find(ies, p.IE_OffendingIE).type, offending, f"... and names IE {offending}")


def check_missing_ies(smf, check):
    pdi_without_interface = [
        p.IE_PDI(IE_list=without(ie.IE_list, p.IE_SourceInterface)) if isinstance(ie, p.IE_PDI) else ie
        for ie in uplink_pdr()
    ]
    for what, offending, part, replacement in [
        ("Node ID", 60, "node_id", None),
        ("CP F-SEID", 57, "f_seid", None),
        ("PDR ID", 56, "uplink_pdr", p.IE_CreatePDR(IE_list=without(uplink_pdr(), p.IE_PDR_Id))),
        ("Precedence", 29, "uplink_pdr", p.IE_CreatePDR(IE_list=without(uplink_pdr(), p.IE_Precedence))),
        ("PDI", 2, "uplink_pdr", p.IE_CreatePDR(IE_list=without(uplink_pdr(), p.IE_PDI))),
        ("Source Interface", 20, "uplink_pdr", p.IE_CreatePDR(IE_list=pdi_without_interface)),
        ("FAR ID of a FAR", 108, "uplink_far", p.IE_CreateFAR(IE_list=without(uplink_far(), p.IE_FAR_Id))),
        ("Apply Action", 44, "uplink_far", p.IE_CreateFAR(IE_list=without(uplink_far(), p.IE_ApplyAction))),
        ("QER ID of a QER", 109, "qer", p.IE_CreateQER(IE_list=without(qer(), p.IE_QER_Id))),
        ("Gate Status", 25, "qer", p.IE_CreateQER(IE_list=without(qer(), p.IE_GateStatus))),
        ("Measurement Method", 62, "urr", p.IE_CreateURR(IE_list=without(urr(), p.IE_MeasurementMethod))),
    ]:
        answer = smf.ask(establishment(smf, CP_SEID + 1, **{part: replacement}), seid=0)
        ies = ies_of(answer, p.PFCPSessionEstablishmentResponse)
        expect_missing(check, ies, offending, f"an establishment without {what}")


def check_bad_values(smf, check):
    bad_flow = p.IE_CreatePDR(IE_list=uplink_pdr(3, 100, "permit out 17 from 300.0.0.1 to assigned"))
    dangling = p.IE_CreatePDR(IE_list=without(uplink_pdr(), p.IE_QER_Id) + [p.IE_QER_Id(id=77)])
    twice = p.IE_CreatePDR(IE_list=uplink_pdr(2, 150))
    for what, replaced in {
        "a flow description that does not parse": {"sdf_pdr": bad_flow},
        "a PDR that names a QER that is not there": {"uplink_pdr": dangling},
        "two PDRs of one PDR ID": {"uplink_pdr": twice},
    }.items():
        answer = smf.ask(establishment(smf, CP_SEID + 2, **replaced), seid=0)
        cause = cause_of(answer, p.PFCPSessionEstablishmentResponse)
        check.that(cause >= 64, f"{what} is refused", f"cause {cause}")


def check_unknown_seid(smf, check):
    nobody = 0xFFFF_FFFF_FFFF_FFF0
    answer = smf.ask(modification(p.IE_RemovePDR(IE_list=[p.IE_PDR_Id(id=1)])), nobody)
    cause = cause_of(answer, p.PFCPSessionModificationResponse)
    check.equal(cause, SESSION_CONTEXT_NOT_FOUND, "a modification of an unknown SEID is refused with cause 65")
    check.equal(answer.seid, 0, "... with SEID 0 in the header")
    answer = smf.ask(p.PFCPSessionDeletionRequest(), nobody)
    cause = cause_of(answer, p.PFCPSessionDeletionResponse)
    check.equal(cause, SESSION_CONTEXT_NOT_FOUND, "a deletion of an unknown SEID is refused with cause 65")


def check_deletion(smf, check, up_seid):
    answer = smf.ask(p.PFCPSessionDeletionRequest(), up_seid)
    ies = ies_of(answer, p.PFCPSessionDeletionResponse)
    check.equal(find(ies, p.IE_Cause).cause, REQUEST_ACCEPTED, "the deletion is accepted")
    check.equal(answer.seid, CP_SEID, "... in a response to the CP SEID")
    usage = find(ies, p.IE_UsageReport_SDR).IE_list
    check.equal(find(usage, p.IE_URR_Id).id, 1, "the deletion reports the usage of the URR")
    check.equal(find(usage, p.IE_UsageReportTrigger).TERMR, 1, "... as a termination report")
    find(usage, p.IE_UR_SEQN)
    find(usage, p.IE_DurationMeasurement)
    volume = find(usage, p.IE_VolumeMeasurement)
    found = (volume.TOVOL, volume.total, volume.ULVOL, volume.uplink, volume.DLVOL, volume.downlink)
    check.equal(found, (1, 0, 1, 0, 1, 0), "... with total, uplink and downlink volume, no packet having come")
    answer = smf.ask(p.PFCPSessionDeletionRequest(), up_seid)
    cause = cause_of(answer, p.PFCPSessionDeletionResponse)
    check.equal(cause, SESSION_CONTEXT_NOT_FOUND, "a deleted session is not found any more")


def check_chosen_ue_address(smf, check):
    # CHV4 is bit 5 of the flags: the second lowest of what scapy still calls spare.
    chosen = [
        p.IE_PDI(IE_list=without(ie.IE_list, p.IE_UE_IP_Address) + [p.IE_UE_IP_Address(spare=2, SD=1)])
        if isinstance(ie, p.IE_PDI)
        else ie
        for ie in downlink_pdr()
    ]
    answer = smf.ask(
        establishment(
            smf,
            CP_SEID + 3,
            sdf_pdr=None,
            uplink_pdr=None,
            uplink_far=None,
            downlink_pdr=p.IE_CreatePDR(IE_list=chosen),
        ),
        seid=0,
    )
    ies = ies_of(answer, p.PFCPSessionEstablishmentResponse)
    check.equal(find(ies, p.IE_Cause).cause, REQUEST_ACCEPTED, "a session whose UE address the UPF chooses is accepted")
    created = find(ies, p.IE_CreatedPDR).IE_list
    address = find(created, p.IE_UE_IP_Address, "Created PDR")
    check.that(address.V4 == 1 and address.ipv4 != "0.0.0.0", "... and the address is told", address)
    answer = smf.ask(p.PFCPSessionDeletionRequest(), find(ies, p.IE_FSEID).seid)
    cause = cause_of(answer, p.PFCPSessionDeletionResponse)
    check.equal(cause, REQUEST_ACCEPTED, "... and deleted")


def check_release(smf, check):
    answer = smf.ask(p.PFCPAssociationReleaseRequest(IE_list=[smf.node_id()]))
    cause = cause_of(answer, p.PFCPAssociationReleaseResponse)
    check.equal(cause, REQUEST_ACCEPTED, "the association is released")
    answer = smf.ask(establishment(smf, CP_SEID + 4), seid=0)
    cause = cause_of(answer, p.PFCPSessionEstablishmentResponse)
    check.equal(cause, NO_ESTABLISHED_ASSOCIATION, "after the release a session is refused with cause 72")


def run(smf, check):
    recovery = check_before_association(smf, check)
    check_version(smf, check)
    chooses_ue_addresses = check_association(smf, check, recovery)
    up_seid = check_establishment(smf, check)
    check_modification(smf, check, up_seid)
    check_refused_modifications(smf, check, up_seid)
    check_missing_ies(smf, check)
    check_bad_values(smf, check)
    check_unknown_seid(smf, check)
    check_deletion(smf, check, up_seid)
    if chooses_ue_addresses:
        check_chosen_ue_address(smf, check)
    else:
        print("skip the UPF does not allocate UE addresses (UEIP)")
    check_release(smf, check)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--upf", default="127.0.0.1:8805", help="N4 address of the UPF, ADDRESS:PORT")
    parser.add_argument("--local", default="127.0.0.9", help="address of this SMF, and its Node ID")
    parser.add_argument("--timeout", type=float, default=2.0, help="seconds until a request is sent again")
    arguments = parser.parse_args()
    host, _, port = arguments.upf.rpartition(":")
    smf, check = Smf((host, int(port)), arguments.local, arguments.timeout), Checks()
    try:
        run(smf, check)
    except Mismatch as mismatch:
        check.failed = max(check.failed, 1)
        print(f"FAIL {mismatch}")
    except (OSError, struct.error) as error:
        check.failed += 1
        print(f"FAIL {type(error).__name__}: {error}")
    print(f"{check.passed} passed, {check.failed} failed")
    return 1 if check.failed else 0


if __name__ == "__main__":
    sys.exit(main())
