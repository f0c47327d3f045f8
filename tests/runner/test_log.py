"""A log of any length is bounded, in order, and says what it leaves out."""

from hypothesis import given
from hypothesis import strategies as st

from armillary.runner.log import Log


def _all(log: Log) -> bytes:
    said = b""
    while (chunk := log.pending()) is not None:
        assert chunk.position == len(said)
        said += chunk.data
        log.acknowledge(chunk)
    return said


@given(st.lists(st.binary(max_size=40)), st.integers(1, 50), st.integers(1, 50))
def test_beginning_and_end_are_kept(written: list[bytes], head: int, tail: int) -> None:
    log = Log(head, tail)
    for data in written:
        log.write(data)
    log.close()
    whole, kept = b"".join(written), _all(log)
    if len(whole) <= head + tail:
        assert kept == whole
    else:
        note = f"\n[armillary] {len(whole) - head - tail} bytes are left out here\n".encode()
        assert kept == whole[:head] + note + whole[-tail:]


@given(st.lists(st.binary(min_size=1, max_size=40)))
def test_the_beginning_can_be_followed_live(written: list[bytes]) -> None:
    log, said = Log(), b""
    for data in written:
        log.write(data)
        chunk = log.pending()
        assert chunk is not None and chunk.position == len(said)
        said += chunk.data
        log.acknowledge(chunk)
    assert said == b"".join(written)


def test_a_piece_that_was_not_acknowledged_comes_again_with_what_followed() -> None:
    log = Log()
    log.write(b"one ")
    first = log.pending()
    log.write(b"two")
    again = log.pending()
    assert first is not None and again is not None
    assert (again.position, again.data) == (first.position, b"one two")


def test_last_words_skip_blank_lines_our_own_notes_and_control_characters() -> None:
    log = Log()
    log.write(b"Traceback\nValueError: \x1b[31mno\xff burst\n\n  \n")
    log.note("something of ours")
    assert log.last_words() == "ValueError: �[31mno� burst"
