"""One question to one name server, in the namespace it is started in: what a client there is told.

`python -m probe.drill.faults.dns_asking SERVER NAME TYPE SECONDS`; one line of JSON: `rcode` in words, `addresses`, and `took` in
seconds; where no answer came, `error` in place of the first two.
"""

from __future__ import annotations

import json
import socket
import sys

import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype

from probe.clock import boottime
from probe.model.clock import NS

SILENCE = "no answer"


def main() -> None:
    server, name, kind, seconds = sys.argv[1:]
    wanted = dns.rdatatype.from_text(kind)
    query = dns.message.make_query(name, wanted)
    began = boottime()
    told: dict[str, object] = {}
    with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(float(seconds))
        try:
            sock.connect((server, 53))
            sock.send(query.to_wire())
            answer = dns.message.from_wire(sock.recv(65535))
            if not query.is_response(answer):
                raise OSError(0, "an answer to something else")
            found = [str(record) for rrset in answer.answer if rrset.rdtype == wanted for record in rrset]
            told = {"rcode": dns.rcode.to_text(answer.rcode()), "addresses": sorted(found)[:64]}
        except TimeoutError:
            told = {"error": f"{SILENCE} within {seconds} s"}
        except (dns.exception.DNSException, OSError) as error:
            told = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps({**told, "took": (boottime() - began) / NS}))  # noqa: T201  # what it is for


if __name__ == "__main__":
    main()
