"""Receipts: signed, read back line by line; and the operator's key, made once and kept to its owner."""

import dataclasses
import json
import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from ipfl.errors import LedgerError
from ipfl.ledger import OperatorKey, key_path, operator_key, read_receipts
from ipfl.ledger import receipts as receipts_module

HEAD = (7, "ab" * 32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keys" / "operator.key"


@pytest.fixture(scope="module")
def signed():
    key = OperatorKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
    return key.receipts("5e" * 32, 3, HEAD, {"a": -5, "b": 5, "operator": 0})


def pem(private: object, encryption: object = None) -> bytes:
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


# ---------------------------------------------------------------- receipts


def test_every_account_gets_a_receipt_that_says_what_stands_in_the_ledger(signed):
    assert [(receipt.participant_id, receipt.balance) for receipt in signed] == [
        ("a", -5),
        ("b", 5),
        ("operator", 0),
    ]
    assert all((receipt.seq, receipt.head) == HEAD and receipt.round_index == 3 for receipt in signed)
    assert all(receipt.genuine() for receipt in signed)


def test_the_same_receipt_is_signed_the_same_way_every_time(signed):
    again = OperatorKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
    assert again.receipts("5e" * 32, 3, HEAD, {"a": -5})[0].to_json() == signed[0].to_json()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("run", "5f" * 32),
        ("round_index", 4),
        ("seq", 8),
        ("head", "ac" * 32),
        ("participant_id", "b"),
        ("participant_id", "\ud800"),
        ("balance", 5),
        ("key", "00" * 32),
        ("key", "00"),
        ("key", "no number"),
        ("signature", "00" * 64),
        ("signature", ""),
        ("signature", "no number"),
    ],
)
def test_a_receipt_is_not_genuine_once_any_field_is_changed(signed, field, value):
    assert not dataclasses.replace(signed[0], **{field: value}).genuine()


def test_receipts_are_read_from_files_and_folders(signed, tmp_path):
    for receipt in signed[:2]:
        folder = tmp_path / "participants" / receipt.participant_id
        folder.mkdir(parents=True)
        (folder / "receipts.jsonl").write_text(f"{receipt.to_json()}\n\n{receipt.to_json()}\n")
    (tmp_path / "rounds.jsonl").write_text('{"round_index": 0}\n')
    (tmp_path / "other.txt").write_text("no receipt\n")
    assert read_receipts(tmp_path) == [signed[0], signed[0], signed[1], signed[1]]
    assert read_receipts(folder / "receipts.jsonl") == [signed[1], signed[1]]


def without(text: str, field: str) -> str:
    content = json.loads(text)
    del content[field]
    return json.dumps(content)


BAD_LINES = {
    "no JSON": lambda text: text[:-1],
    "nested": lambda text: "[" * 100_000,
    "list": lambda text: f"[{text}]",
    "number": lambda text: "7",
    "field lacking": lambda text: without(text, "seq"),
    "field more": lambda text: text.replace("{", '{"more":1,', 1),
    "balance as text": lambda text: text.replace('"balance":-5', '"balance":"-5"'),
    "balance in floating point": lambda text: text.replace('"balance":-5', '"balance":-5.0'),
    "balance yes": lambda text: text.replace('"balance":-5', '"balance":true'),
    "nobody": lambda text: text.replace('"participant_id":"a"', '"participant_id":null'),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_line_that_is_no_receipt_is_refused_with_file_and_line(signed, tmp_path, case):
    text = signed[0].to_json()
    bad = BAD_LINES[case](text)
    assert bad != text
    path = tmp_path / "receipts.jsonl"
    path.write_text(f"{text}\n{bad}\n{text}\n")
    with pytest.raises(LedgerError, match=rf"^{path}, line 2 is no receipt: "):
        read_receipts(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"^cannot read receipts .*mine.jsonl: .*No such file"),
        (b"\xff\xfe", r"^cannot read receipts .*mine.jsonl: 'utf-8' codec"),
        (
            b"",
            r"^no receipts at .*mine.jsonl: give a file of receipts \(.jsonl\) or a folder with such files",
        ),
        (b"\n \n", "^no receipts at"),
    ],
)
def test_a_file_without_receipts_is_refused(tmp_path, content, message):
    path = tmp_path / "mine.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LedgerError, match=message):
        read_receipts(path)


def test_a_folder_without_receipts_is_refused(tmp_path):
    with pytest.raises(LedgerError, match=r"^no receipts at"):
        read_receipts(tmp_path)


def test_a_file_too_large_for_receipts_is_not_read(signed, tmp_path, monkeypatch):
    path = tmp_path / "receipts.jsonl"
    path.write_text(f"{signed[0].to_json()}\n")
    monkeypatch.setattr(receipts_module, "_SIZE_MAX", 100)
    with pytest.raises(LedgerError, match=r"receipts.jsonl is larger than 0 MB: it is no file of receipts"):
        read_receipts(path)


# ---------------------------------------------------------------- the key


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_key_is_made_at_first_use_for_its_owner_alone_and_kept(path):
    key = operator_key(path)
    content = path.read_bytes()
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["operator.key"]
    assert operator_key(path).public == key.public
    assert path.read_bytes() == content
    assert operator_key(path).receipts("5e" * 32, 0, HEAD, {"a": 0})[0].genuine()


def test_the_key_is_where_the_environment_says(path, monkeypatch):
    monkeypatch.setenv("IPFL_OPERATOR_KEY", str(path))
    assert key_path() == path
    assert operator_key().public == operator_key(path).public
    monkeypatch.delenv("IPFL_OPERATOR_KEY")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(path.parent))
    assert key_path().name == "operator.key"


@pytest.mark.parametrize("others", [0o640, 0o604, 0o610])
def test_a_key_that_others_may_read_is_refused(path, others):
    operator_key(path)
    path.chmod(others)
    with pytest.raises(
        LedgerError, match=rf"^others may read the operator's key {path}: `chmod 600 {path}`$"
    ):
        operator_key(path)
    path.chmod(0o400)
    operator_key(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "holds no key"),
        (pem(Ed25519PrivateKey.generate(), BestAvailableEncryption(b"secret")), "holds no key"),
        (pem(generate_private_key(SECP256R1())), "holds a key of another kind, expected Ed25519"),
    ],
    ids=["empty", "broken", "encrypted", "other kind"],
)
def test_a_file_that_holds_no_such_key_is_refused_and_stays(path, content, message):
    path.parent.mkdir()
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(LedgerError, match=rf"^{path} {message}"):
        operator_key(path)
    assert path.read_bytes() == content


def test_of_two_processes_that_make_a_key_at_once_both_use_the_first(path, monkeypatch):
    first, link = [], os.link

    def overtaken(source, target):
        monkeypatch.setattr(os, "link", link)
        first.append(operator_key_of_another(path))
        link(source, target)

    monkeypatch.setattr(os, "link", overtaken)
    assert operator_key(path).public == first[0]
    assert [each.name for each in path.parent.iterdir()] == ["operator.key"]


def operator_key_of_another(path: Path) -> str:
    private = Ed25519PrivateKey.generate()
    path.write_bytes(pem(private))
    path.chmod(0o600)
    return OperatorKey(private).public


def test_a_place_where_no_key_can_be_is_told_with_the_variable_to_set(path):
    path.parent.write_text("a file where a folder should be")
    with pytest.raises(LedgerError, match=r"^cannot read or make the operator's key .*by IPFL_OPERATOR_KEY$"):
        operator_key(path)


def test_a_key_that_leads_nowhere_is_not_followed(path, tmp_path):
    path.parent.mkdir()
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(LedgerError, match=r"^cannot read or make the operator's key"):
        operator_key(path)
    assert not (tmp_path / "nowhere").exists()
    assert [each.name for each in path.parent.iterdir()] == ["operator.key"]
