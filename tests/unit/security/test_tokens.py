"""Tokens: the text form, uses, expiry, what each refusal says, what survives a restart."""

import pytest

from dmssd.security.token import (
    PREFIX,
    TOKENS_KEPT_MAX,
    TOKENS_MAX,
    TTL_DEFAULT,
    TTL_MAX,
    USES_MAX,
    Grant,
    Token,
    TokenBook,
)
from sansio.errors import AdmissionError, StoreError
from sansio.ids import NodeId
from sansio.instant import SECOND, Duration, Instant, after
from tests.unit.security.wires import entropy_of, mesh_of

NOW = Instant(77 * SECOND)
MESH, ISSUER = mesh_of("a")[0].mesh, mesh_of("a")[0].identity.node


def book_with_token(**options) -> tuple[TokenBook, Token]:
    book = TokenBook(None, NOW)
    return book, book.create(MESH, ISSUER, entropy_of("token"), NOW, **options)


def grant(who: int, serial: int = 1) -> Grant:
    return Grant(NodeId(bytes([who]) * 20), serial, 0, 0)


def test_the_text_form_round_trips_and_is_one_word():
    _, token = book_with_token()
    assert Token.parse(str(token)) == token
    assert Token.parse(f"  {token}\n") == token
    assert len(str(token)) == len(PREFIX) + 80
    assert set(str(token)) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


def test_a_secret_is_not_printed():
    _, token = book_with_token()
    assert repr(token.secret) not in repr(token)


@pytest.mark.parametrize(
    ("mangle", "says"),
    [
        (lambda text: "", "not a join token"),
        (lambda text: text.removeprefix(PREFIX), "not a join token"),
        (lambda text: text[:-4], "damaged"),
        (lambda text: text + "AAAA", "damaged"),
        (lambda text: text[:20] + "!" + text[21:], "damaged"),
        (lambda text: text[:20] + "é" + text[21:], "damaged"),
        (lambda text: PREFIX, "damaged"),
    ],
)
def test_a_mangled_token_is_refused_with_what_to_do(mangle, says):
    with pytest.raises(AdmissionError, match=says):
        Token.parse(mangle(str(book_with_token()[1])))


def test_a_token_is_used_once_unless_more_were_asked_for():
    book, token = book_with_token()
    book.redeem(token.id, token.secret, grant(1), NOW)
    with pytest.raises(AdmissionError, match="used up"):
        book.redeem(token.id, token.secret, grant(2), NOW)
    book, token = book_with_token(uses=3)
    for who in range(3):
        book.redeem(token.id, token.secret, grant(who), NOW)
    with pytest.raises(AdmissionError, match="used up"):
        book.redeem(token.id, token.secret, grant(9), NOW)


def test_the_same_joiner_is_granted_the_same_again_without_another_use():
    book, token = book_with_token(uses=2)
    first = book.redeem(token.id, token.secret, grant(1, serial=11), NOW)
    assert book.redeem(token.id, token.secret, grant(1, serial=22), NOW) == first
    assert book.tokens(NOW)[0].uses_left == 1


def test_a_wrong_secret_is_refused_and_uses_nothing():
    book, token = book_with_token()
    with pytest.raises(AdmissionError, match="secret is wrong"):
        book.redeem(token.id, bytes(16), grant(1), NOW)
    book.redeem(token.id, token.secret, grant(1), NOW)


def test_a_wrong_secret_does_not_tell_whether_the_token_is_used_or_expired():
    book, token = book_with_token()
    book.redeem(token.id, token.secret, grant(1), NOW)
    with pytest.raises(AdmissionError, match="secret is wrong"):
        book.redeem(token.id, bytes(16), grant(1), after(NOW, TTL_MAX))


def test_a_token_expires_when_its_time_is_up_even_for_its_own_joiner():
    book, token = book_with_token()
    last = Instant(after(NOW, TTL_DEFAULT) - 1)
    book.redeem(token.id, token.secret, grant(1), last)
    with pytest.raises(AdmissionError, match="expired"):
        book.redeem(token.id, token.secret, grant(1), after(NOW, TTL_DEFAULT))


def test_an_unknown_token_is_refused_by_name():
    with pytest.raises(AdmissionError, match="not known to its issuer"):
        TokenBook(None, NOW).redeem(bytes(8), bytes(16), grant(1), NOW)


@pytest.mark.parametrize(
    "options", [{"uses": 0}, {"uses": USES_MAX + 1}, {"ttl": Duration(0)}, {"ttl": Duration(TTL_MAX + 1)}]
)
def test_numbers_out_of_range_make_no_token(options):
    with pytest.raises(AdmissionError):
        book_with_token(**options)


def test_a_restart_keeps_uses_grants_and_the_time_that_was_left():
    book, token = book_with_token(uses=2)
    book.redeem(token.id, token.secret, grant(1, serial=11), NOW)
    stored = book.export(after(NOW, Duration(400 * SECOND)))
    boot = Instant(5 * SECOND)
    book = TokenBook(stored, boot)
    assert book.tokens(boot)[0].remaining == 200 * SECOND
    assert book.redeem(token.id, token.secret, grant(1, serial=22), boot).serial == 11
    book.redeem(token.id, token.secret, grant(2), boot)
    with pytest.raises(AdmissionError, match="used up"):
        book.redeem(token.id, token.secret, grant(3), boot)
    with pytest.raises(AdmissionError, match="expired"):
        book.redeem(token.id, token.secret, grant(1), after(boot, Duration(200 * SECOND)))


def test_exporting_twice_counts_no_time_twice():
    book, _ = book_with_token()
    book.export(after(NOW, Duration(100 * SECOND)))
    later = after(NOW, Duration(200 * SECOND))
    assert TokenBook(book.export(later), later).tokens(later)[0].remaining == 400 * SECOND


def test_the_stored_book_admits_nobody():
    book, token = book_with_token()
    assert token.secret not in book.export(NOW)


def test_a_damaged_book_is_refused_with_what_to_do():
    with pytest.raises(StoreError, match="remove them"):
        TokenBook(b"\xc1", NOW)


def test_live_tokens_are_bounded_and_ended_ones_make_room():
    book = TokenBook(None, NOW)
    entropy = entropy_of("many")
    for _ in range(TOKENS_MAX):
        book.create(MESH, ISSUER, entropy, NOW)
    with pytest.raises(AdmissionError, match="live already"):
        book.create(MESH, ISSUER, entropy, NOW)
    later = NOW
    for _ in range(4):
        later = after(later, TTL_DEFAULT)
        for _ in range(TOKENS_MAX):
            book.create(MESH, ISSUER, entropy, later)
    assert len(book._entries) == TOKENS_KEPT_MAX
