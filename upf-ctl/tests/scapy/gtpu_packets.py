#!/usr/bin/env python3
"""GTP-U messages by scapy, one a line as `NAME HEX`: vectors for decoders that share no code with scapy.

    gtpu_packets.py > vectors.txt

The octets depend on nothing but scapy's version. A line's name says what the message is and every value in it.

Not here: Supported Extension Headers Notification, whose list scapy gives a length of two octets where TS 29.281
8.5 has one.
"""

import logging
import sys

logging.getLogger("scapy.runtime").setLevel(logging.ERROR)

import scapy  # noqa: E402
from scapy.contrib import gtp  # noqa: E402
from scapy.layers.inet import ICMP, IP, TCP, UDP  # noqa: E402
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6  # noqa: E402
from scapy.packet import Raw  # noqa: E402

UE4, DN4 = "10.60.0.1", "198.51.100.1"
UE6, DN6 = "2001:db8:60::1", "2001:db8:ffff::1"
TEID = 0x12345678


def ping4():
    return IP(src=UE4, dst=DN4, id=1) / ICMP(id=7, seq=1) / Raw(b"abcdefgh")


def udp4():
    return IP(src=DN4, dst=UE4, id=2, tos=0xB8) / UDP(sport=53, dport=40000) / Raw(b"answer")


def tcp6():
    return IPv6(src=UE6, dst=DN6, tc=0x28, fl=0x12345) / TCP(sport=50000, dport=443, seq=1, flags="S")


def ping6():
    return IPv6(src=UE6, dst=DN6) / ICMPv6EchoRequest(id=7, seq=1, data=b"abcdefgh")


def gpdu(payload, *containers, teid=TEID, **header):
    """A G-PDU; with containers the E flag and the next extension header type are set."""
    if containers:
        header |= {"E": 1, "next_ex": 0x85}
    packet = gtp.GTP_U_Header(gtp_type=255, teid=teid, **header)
    for container in containers:
        packet = packet / container
    # By its octets, so that scapy does not bind another payload type to the header.
    return packet / Raw(bytes(payload))


def downlink(**fields):
    return gtp.GTPPDUSessionContainer(type=0, **fields)


def uplink(**fields):
    return gtp.GTPPDUSessionContainer(type=1, **fields)


def messages():
    yield "gpdu_plain_ipv4_icmp", gpdu(ping4())
    yield "gpdu_plain_ipv6_tcp", gpdu(tcp6())
    yield "gpdu_teid_1_ipv4_udp", gpdu(udp4(), teid=1)
    yield "gpdu_teid_ffffffff_ipv6_icmp", gpdu(ping6(), teid=0xFFFFFFFF)
    yield "gpdu_seq_4660_ipv4_icmp", gpdu(ping4(), S=1, seq=0x1234)
    yield "gpdu_npdu_86_ipv4_icmp", gpdu(ping4(), PN=1, npdu=0x56)
    yield "gpdu_seq_4660_npdu_86_ipv4_icmp", gpdu(ping4(), S=1, PN=1, seq=0x1234, npdu=0x56)
    yield "gpdu_empty", gpdu(b"")
    for qfi in (0, 1, 9, 63):
        yield f"gpdu_dl_qfi_{qfi}_ipv4_udp", gpdu(udp4(), downlink(QFI=qfi))
        yield f"gpdu_ul_qfi_{qfi}_ipv4_icmp", gpdu(ping4(), uplink(QFI=qfi))
    yield "gpdu_dl_qfi_5_rqi_ipv4_udp", gpdu(udp4(), downlink(QFI=5, RQI=1))
    yield "gpdu_dl_qfi_5_ppi_3_ipv4_udp", gpdu(udp4(), downlink(QFI=5, PPP=1, PPI=3))
    yield "gpdu_dl_qfi_5_rqi_ppi_7_ipv4_udp", gpdu(udp4(), downlink(QFI=5, RQI=1, PPP=1, PPI=7))
    yield (
        "gpdu_dl_qfi_5_sendtime_0102030405060708_ipv4_udp",
        gpdu(udp4(), downlink(QFI=5, QMP=1, dlSendTime=0x0102030405060708)),
    )
    yield "gpdu_dl_qfi_5_sn_66051_ipv4_udp", gpdu(udp4(), downlink(QFI=5, SNP=1, dlQFISeqNum=0x010203))
    yield (
        "gpdu_dl_qfi_5_rqi_ppi_2_sendtime_1_sn_2_ipv4_udp",
        gpdu(udp4(), downlink(QFI=5, RQI=1, PPP=1, PPI=2, QMP=1, dlSendTime=1, SNP=1, dlQFISeqNum=2)),
    )
    yield "gpdu_dl_qfi_9_ipv6_icmp", gpdu(ping6(), downlink(QFI=9))
    yield "gpdu_dl_qfi_9_seq_4660_ipv4_udp", gpdu(udp4(), downlink(QFI=9), S=1, seq=0x1234)
    yield "gpdu_ul_qfi_9_ipv6_tcp", gpdu(tcp6(), uplink(QFI=9))
    yield "gpdu_ul_qfi_9_sn_66051_ipv4_icmp", gpdu(ping4(), uplink(QFI=9, SNP=1, UlQFISeqNum=0x010203))
    yield (
        "gpdu_ul_qfi_9_times_1_2_3_ipv4_icmp",
        gpdu(ping4(), uplink(QFI=9, QMP=1, dlSendTimeRpt=1, dlRecvTime=2, ulSendTime=3)),
    )
    yield (
        "gpdu_ul_qfi_9_dldelay_4_uldelay_5_n3n9delay_6_ipv4_icmp",
        gpdu(
            ping4(),
            uplink(QFI=9, dlDelayInd=1, ulDelayInd=1, N3N9DelayInd=1, dlDelayRslt=4, ulDelayRslt=5, N3N9DelayRslt=6),
        ),
    )
    yield (
        "gpdu_udpport_2152_ipv4_icmp",
        gtp.GTP_U_Header(gtp_type=255, teid=TEID, E=1, next_ex=0x40)
        / gtp.GTP_UDPPort_ExtensionHeader(udp_port=2152)
        / Raw(bytes(ping4())),
    )
    yield (
        "gpdu_pdcp_258_ipv4_icmp",
        gtp.GTP_U_Header(gtp_type=255, teid=TEID, E=1, next_ex=0xC0)
        / gtp.GTP_PDCP_PDU_ExtensionHeader(pdcp_pdu=0x0102)
        / Raw(bytes(ping4())),
    )
    yield (
        "gpdu_pdcp_258_dl_qfi_9_ipv4_udp",
        gtp.GTP_U_Header(gtp_type=255, teid=TEID, E=1, next_ex=0xC0)
        / gtp.GTP_PDCP_PDU_ExtensionHeader(pdcp_pdu=0x0102, next_ex=0x85)
        / downlink(QFI=9)
        / Raw(bytes(udp4())),
    )
    yield "echo_request_seq_4660", gtp.GTPHeader(gtp_type=1, S=1, seq=0x1234) / gtp.GTPEchoRequest()
    yield (
        "echo_response_seq_4660_recovery_0",
        gtp.GTPHeader(gtp_type=2, S=1, seq=0x1234)
        / gtp.GTPEchoResponse(IE_list=[gtp.IE_Recovery(restart_counter=0)]),
    )
    yield "end_marker", gtp.GTP_U_Header(gtp_type=254, teid=TEID)
    yield (
        "error_indication_teid_12345678_ipv4_192.0.2.1",
        gtp.GTP_U_Header(gtp_type=26, S=1, teid=0)
        / gtp.GTPErrorIndication(IE_list=[gtp.IE_TEIDI(TEIDI=TEID), gtp.IE_GSNAddress(length=4, ipv4_address="192.0.2.1")]),
    )
    yield (
        "error_indication_teid_12345678_ipv6_2001:db8::1",
        gtp.GTP_U_Header(gtp_type=26, S=1, teid=0)
        / gtp.GTPErrorIndication(
            IE_list=[gtp.IE_TEIDI(TEIDI=TEID), gtp.IE_GSNAddress(length=16, ipv6_address="2001:db8::1")]
        ),
    )


def main():
    print(f"# GTP-U messages built by scapy {scapy.__version__} (upf-ctl/tests/scapy/gtpu_packets.py): NAME HEX.")
    print(f"# The TEID is {TEID:08x} unless the name says otherwise; addresses are of the documentation ranges.")
    for name, message in messages():
        print(name, bytes(message).hex())
    return 0


if __name__ == "__main__":
    sys.exit(main())
