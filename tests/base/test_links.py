"""Signed links work for their path until their time, and for nothing else."""

from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from armillary.base.errors import NotAllowed
from armillary.base.links import Links, file_path


def parts(link):
    query = parse_qs(urlsplit(link).query)
    return urlsplit(link).path, query["expires"][0], query["signature"][0]


def test_a_link_is_good_for_its_path_alone():
    links = Links(b"k" * 32)
    path, expires, signature = parts(links.sign(file_path("a/b%20c/1/x"), timedelta(hours=1)))
    assert path == "/api/files/a/b%2520c/1/x"
    assert links.check(path, expires, signature)
    assert not links.check(path, None, None)
    for changed in ((path + "y", expires, signature), (path, str(int(expires) + 1), signature), (path, "x", signature)):
        with pytest.raises(NotAllowed, match="changed"):
            links.check(*changed)
    with pytest.raises(NotAllowed):
        Links(b"l" * 32).check(path, expires, signature)


def test_a_link_of_a_former_key_is_good_and_new_ones_are_of_the_new_key():
    path, expires, signature = parts(Links(b"old").sign("/api/files/x", timedelta(hours=1)))
    both = Links(b"new", b"old")
    assert both.check(path, expires, signature)
    path, expires, signature = parts(both.sign("/api/files/x", timedelta(hours=1)))
    assert Links(b"new").check(path, expires, signature)
    with pytest.raises(NotAllowed):
        Links(b"old").check(path, expires, signature)


def test_a_link_expires():
    path, expires, signature = parts(Links(b"k").sign("/api/files/x", timedelta(seconds=-1)))
    with pytest.raises(NotAllowed, match="expired"):
        Links(b"k").check(path, expires, signature)
