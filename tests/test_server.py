import socket

from armillary.server import listen


def test_an_answer_does_not_wait_for_its_header_to_be_acknowledged():
    """Nagle's algorithm with delayed acknowledgements: 40 ms for each request that has a body to answer."""
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
