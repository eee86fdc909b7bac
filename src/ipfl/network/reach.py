"""Whether a participant reaches the market at an address, and what stands in the way, in one sentence.

Flower's own log would say these things late, or in words of its libraries.
"""

import os
import socket
import ssl
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPSConnection
from pathlib import Path

from ipfl.errors import NetworkError
from ipfl.network.addresses import split_address

AHEAD_S, BEHIND_S = 5, 305
"""So far a participant's clock may be ahead of the market's, and behind it: Flower refuses signatures beyond."""
_ANSWERING_S = 10


def why_unreachable(address: str, ca: Path) -> str:
    """Why the market cannot be reached now; empty if it can.

    Args:
      address: HOST:PORT of the market.
      ca: certificate of the authority that the operator's certificate is signed by.
    Raises:
      ConfigError: the address is none.
      NetworkError: it can be reached, but trying again would not help.
    """
    host, port = split_address(address)
    context = ssl.create_default_context(cafile=ca)
    connection = HTTPSConnection(host, port, context=context, timeout=_ANSWERING_S)
    try:
        asked = time.time()
        connection.request("GET", "/health")
        date = connection.getresponse().getheader("Date")
        if date is not None:
            check_clock(asked, parsedate_to_datetime(date).timestamp(), address)
    except ssl.SSLCertVerificationError as error:
        raise NetworkError(certificate_sentence(error.verify_message, address, ca)) from None
    except ssl.SSLError:
        raise NetworkError(
            f"what answers at {address} speaks no TLS: check the address with the operator"
        ) from None
    except socket.gaierror:
        return f"the name {host} is not known"
    except (OSError, HTTPException) as error:
        reason = (
            os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else str(error)
        )
        return f"the market does not answer at {address} ({reason})"
    finally:
        connection.close()
    return ""


def certificate_sentence(reason: str, address: str, ca: Path) -> str:
    """One sentence for what OpenSSL has against a certificate.

    >>> certificate_sentence("certificate has expired", "market.example:443", Path("ca.crt"))
    'the certificate of market.example:443 has expired: the operator has to renew it'
    """
    lower = reason.lower()
    if "expired" in lower:
        return f"the certificate of {address} has expired: the operator has to renew it"
    if "not yet valid" in lower:
        return f"the certificate of {address} is not valid yet: check this machine's clock"
    if "mismatch" in lower or "not valid for" in lower:
        host = address.rpartition(":")[0]
        return f"the certificate of {address} is not for {host}: use the address that the operator gave"
    return (
        f"the certificate of {address} is not signed by the authority of {ca}: "
        f"this is not the operator's market, or {ca.name} is not his ({reason})"
    )


def check_clock(here: float, there: float, address: str) -> None:
    """Refuse clocks that are too far apart for the market to take this participant's signatures.

    Args:
      here: seconds since 1970, by this machine's clock.
      there: by the market's, cut to whole seconds.
      address: of the market.
    Raises:
      NetworkError: they are too far apart.
    """
    ahead_s = here - there
    if -BEHIND_S < ahead_s < AHEAD_S + 1:
        return
    apart = f"{abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'}"
    raise NetworkError(
        f"this machine's clock ({datetime.fromtimestamp(here, UTC):%Y-%m-%d %H:%M:%S} UTC) is {apart} that of "
        f"{address}, and the market allows {AHEAD_S} s ahead and {BEHIND_S} s behind: set it, or the market's, right"
    )
