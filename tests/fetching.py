"""What the tests of the fetcher share: an answer's first lines, and the reason of a failure."""

from __future__ import annotations

from raw_server import send_all

from lightbulb.web.fetch import FetchFailure, Page
from lightbulb.web.reactor import Request, Response
from lightbulb.web.rules import Reason

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
NOT_FOUND = Response(404, "nothing here", content_type="text/plain")


def reason_of(result: Page | FetchFailure) -> Reason:
    assert isinstance(result, FetchFailure), result
    assert result.detail
    return result.reason


class Resolver:
    "A Twisted resolver that answers with a list of addresses, another one each time."

    def __init__(self, *answers: list[str]) -> None:
        self.answers, self.num_asked = answers, 0

    def resolveHostName(self, receiver, hostName, portNumber=0, addressTypes=None, transportSemantics="TCP"):
        from twisted.internet.address import IPv4Address, IPv6Address

        answer = self.answers[min(self.num_asked, len(self.answers) - 1)]
        self.num_asked += 1
        receiver.resolutionBegan(self)
        for address in answer:
            receiver.addressResolved((IPv6Address if ":" in address else IPv4Address)("TCP", address, portNumber))
        receiver.resolutionComplete()
        return self


def endless(chunk: bytes, first: bytes = b""):
    def stream():
        yield first
        while True:
            yield chunk

    return send_all(stream)


def robots_site(robots):
    "A site whose robots.txt is a Response, or a text; and what was asked of it."
    hits: list[str] = []

    def handle(request: Request) -> Response:
        hits.append(request.path)
        if request.path != "/robots.txt": return Response(body="a page")
        return robots if isinstance(robots, Response) else Response(body=robots, content_type="text/plain")

    return handle, hits
