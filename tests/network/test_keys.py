"""Keys of participants: made once, read back, told apart; what one signs no other verifies; every refusal."""

import base64
import hashlib
import os
import shutil
import stat
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
    load_ssh_public_key,
)

from ipfl.errors import KeyFileError
from ipfl.ledger import operator_key
from ipfl.network import key_files
from ipfl.network.keys import (
    PublicKey,
    fingerprint_of_der,
    make_participant_key,
    operator_signed,
    read_participant_key,
    read_public_key,
)

P384, P256 = ec.SECP384R1(), ec.SECP256R1()
EXPECTED = "expected ecdsa-sha2-nistp384 as `ipfl keys participant FILE` makes it"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keys" / "clinic-a.key"


@pytest.fixture(scope="module")
def other():
    return ec.generate_private_key(P384)


def openssh(private) -> bytes:
    return private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def forged(cipher: bytes, public: bytes) -> bytes:
    """OpenSSH's file for a key, but for a secret part of zeros: to lock a real one takes a package more."""

    def with_length(part: bytes) -> bytes:
        return len(part).to_bytes(4) + part

    locked = cipher != b"none"
    kdf = [b"bcrypt", with_length(bytes(16)) + (16).to_bytes(4)] if locked else [b"none", b""]
    body = b"openssh-key-v1\0" + b"".join(map(with_length, [cipher, *kdf])) + (1).to_bytes(4)
    body += with_length(public) + with_length(bytes(192))
    text = base64.encodebytes(body)
    return b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + text + b"-----END OPENSSH PRIVATE KEY-----\n"


def pkcs8(private) -> bytes:
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def line(private) -> str:
    return private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def spki(private, encoding=Encoding.DER) -> bytes:
    return private.public_key().public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)


def secret(path, content: bytes):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def refusal(call, *arguments) -> str:
    with pytest.raises(KeyFileError) as caught:
        call(*arguments)
    return str(caught.value)


# ---------------------------------------------------------------- made and read back


def test_a_key_is_made_for_its_owner_alone_and_read_back(path):
    made = make_participant_key(path, "clinic a")
    read = read_participant_key(path)
    beside = path.with_name("clinic-a.key.pub")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(beside.stat().st_mode) & 0o133 == 0
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert sorted(each.name for each in path.parent.iterdir()) == ["clinic-a.key", "clinic-a.key.pub"]
    assert read.public == made.public == read_public_key(beside, "clinic-a")
    assert beside.read_text() == f"{made.public_text} clinic a\n"
    assert read.fingerprint == made.fingerprint == made.public.fingerprint


def test_flower_reads_the_files_with_the_functions_that_it_calls(path):
    key = make_participant_key(path)
    private = load_ssh_private_key(path.read_bytes(), None)
    public = load_ssh_public_key(path.with_name("clinic-a.key.pub").read_bytes())
    kept = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert private.public_key() == public
    assert PublicKey.from_pem(kept) == key.public


def test_a_comment_is_reduced_to_what_can_stand_in_its_line(path):
    make_participant_key(path, "zwei\nZeilen\x1b Köln\udc80 ")
    text = path.with_name("clinic-a.key.pub").read_text(encoding="utf-8")
    assert text.endswith("zweiZeilen Köln\n")
    assert len(text.splitlines()) == 1
    read_public_key(text, "the key")


@pytest.mark.parametrize("there", ["clinic-a.key", "clinic-a.key.pub"])
@pytest.mark.parametrize("link", [False, True], ids=["file", "dangling link"])
def test_nothing_is_overwritten(path, there, link):
    path.parent.mkdir()
    taken = path.with_name(there)
    taken.symlink_to("nowhere") if link else taken.write_text("mine")
    assert refusal(make_participant_key, path, "") == (
        f"{taken} is there already and is never overwritten: give another name, or move it away"
    )
    assert [each.name for each in path.parent.iterdir()] == [there]
    assert taken.is_symlink() if link else taken.read_text() == "mine"


@pytest.mark.parametrize("late", ["clinic-a.key", "clinic-a.key.pub"])
def test_what_another_process_makes_meanwhile_is_left_alone(path, monkeypatch, late):
    link = os.link

    def overtaken(source, target):
        if target.name == late:
            target.write_text("theirs")
        link(source, target)

    monkeypatch.setattr(os, "link", overtaken)
    assert "is there already" in refusal(make_participant_key, path)
    assert path.with_name(late).read_text() == "theirs"
    assert [each.name for each in path.parent.iterdir()] == [late]


def test_a_place_where_no_file_can_be_is_told(path):
    path.parent.write_text("a file where a folder should be")
    assert refusal(make_participant_key, path) == f"cannot write {path}: File exists"


def test_nothing_stays_of_a_file_that_cannot_be_written_whole(path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert refusal(make_participant_key, path) == f"cannot write {path}: No space left on device"
    assert list(path.parent.iterdir()) == []
    assert refusal(key_files.replace_key_file, path, b"", 0o600).startswith(f"cannot write {path}: ")


# ---------------------------------------------------------------- signing


def test_what_one_key_signs_no_other_key_and_no_other_data_verify(path, other):
    key = make_participant_key(path)
    signature = key.sign(b"bid 5")
    assert key.public.verify(signature, b"bid 5")
    assert not key.public.verify(signature, b"bid 6")
    assert not PublicKey.from_der(spki(other)).verify(signature, b"bid 5")
    for wrong in (b"", b"\x00", signature[:-1], signature + b"\x00", bytes(len(signature))):
        assert not key.public.verify(wrong, b"bid 5")


def test_the_operator_signs_and_participants_check(tmp_path):
    key, another = operator_key(tmp_path / "a.key"), operator_key(tmp_path / "b.key")
    signature = key.sign(b"terms")
    assert operator_signed(key.public, signature, b"terms")
    assert not operator_signed(key.public, signature, b"other terms")
    assert not operator_signed(another.public, signature, b"terms")
    assert not operator_signed(key.public, signature[:-1], b"terms")
    assert not operator_signed("no number", signature, b"terms")
    assert not operator_signed(key.public[:-2], signature, b"terms")


# ---------------------------------------------------------------- fingerprints


def test_the_fingerprint_is_the_hash_of_the_public_key_however_it_is_given(path):
    key = make_participant_key(path)
    wanted = hashlib.sha256(key.public.der).hexdigest()
    pem = spki(load_ssh_private_key(path.read_bytes(), None), Encoding.PEM)
    given = [
        PublicKey.from_der(key.public.der),
        PublicKey.from_pem(pem),
        read_public_key(key.public_text, "the key"),
        read_public_key(f"  {key.public_text} a comment\n", "the key"),
        read_public_key(str(path.with_name("clinic-a.key.pub")), "the key"),
    ]
    assert {each.fingerprint for each in given} == {fingerprint_of_der(key.public.der)} == {wanted}
    assert all(each == key.public and each.text == key.public_text for each in given)


def test_a_key_with_its_point_compressed_is_the_same_key(other):
    whole = spki(other)
    point = other.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    algorithm = whole[2:20]  # after the header of the sequence: the kind of key and the curve
    body = algorithm + b"\x03" + bytes([len(point) + 1]) + b"\x00" + point
    compressed = b"\x30" + bytes([len(body)]) + body
    assert compressed != whole
    assert PublicKey.from_der(compressed) == PublicKey.from_der(whole)
    assert fingerprint_of_der(compressed) == fingerprint_of_der(whole)


def test_a_fingerprint_exists_for_other_kinds_too():
    der = spki(Ed25519PrivateKey.generate())
    assert fingerprint_of_der(der) == hashlib.sha256(der).hexdigest()
    assert refusal(fingerprint_of_der, b"no key") == f"the public key: this is no public key, {EXPECTED}"


# ---------------------------------------------------------------- private keys that are refused


def test_a_missing_key_is_told_how_to_make(path):
    assert refusal(read_participant_key, path) == (
        f"the participant's key {path} is not there: `ipfl keys participant {path}` makes it"
    )


@pytest.mark.parametrize("others", [0o640, 0o604, 0o610, 0o602])
def test_a_key_that_others_have_a_right_to_is_refused(path, others):
    make_participant_key(path)
    path.chmod(others)
    assert (
        refusal(read_participant_key, path) == f"others may read the private key {path}: `chmod 600 {path}`"
    )
    path.chmod(0o400)
    read_participant_key(path)


def test_a_path_with_blanks_can_be_pasted(tmp_path):
    path = tmp_path / "my key"
    make_participant_key(path)
    path.chmod(0o644)
    assert refusal(read_participant_key, path).endswith(f"`chmod 600 '{path}'`")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "holds no private key, "),
        (b"some text\n", "holds no private key, "),
        (b"\xff\xfe\x00", "holds no private key, "),
        (
            b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
            "holds no private key, ",
        ),
        (openssh(ec.generate_private_key(P256)), ": this is a key of another kind (EC on secp256r1), "),
        (openssh(Ed25519PrivateKey.generate()), ": this is a key of another kind (Ed25519), "),
    ],
    ids=["empty", "text", "bytes", "broken", "P-256", "Ed25519"],
)
def test_a_file_that_holds_no_such_key_is_refused(path, content, sentence):
    space = "" if sentence.startswith(":") else " "
    assert refusal(read_participant_key, secret(path, content)) == f"{path}{space}{sentence}{EXPECTED}"


def test_a_locked_key_is_refused(path, other):
    secret(path, forged(b"aes256-ctr", base64.b64decode(line(other).split()[1])))
    assert refusal(read_participant_key, path) == (
        f"{path} is locked with a passphrase, which nobody can type in for a service: "
        f"`ssh-keygen -p -N '' -f {path}` takes it away"
    )


def test_a_key_of_a_kind_that_is_not_known_at_all_is_refused(path):
    secret(path, forged(b"none", b"\x00\x00\x00\x07unknown"))
    assert refusal(read_participant_key, path).startswith(f"{path} holds a key of another kind (")


def test_a_key_in_another_format_is_refused(path, other):
    assert refusal(read_participant_key, secret(path, pkcs8(other))) == (
        f"{path} holds a key in another format than OpenSSH's: `ssh-keygen -p -N '' -f {path}` writes it anew"
    )


@pytest.mark.parametrize("form", ["line", "PEM"])
def test_a_public_key_in_place_of_the_private_one_is_refused_whatever_its_rights(path, other, form):
    secret(path, line(other).encode() if form == "line" else spki(other, Encoding.PEM)).chmod(0o644)
    assert refusal(read_participant_key, path) == (
        f"{path} holds a public key, expected the private one, which is the file without .pub"
    )


def test_what_is_no_file_or_too_large_is_not_read(path, monkeypatch):
    path.mkdir(parents=True)
    assert refusal(read_participant_key, path) == f"the participant's key {path} is not a file"
    pipe = path / "pipe"
    os.mkfifo(pipe)
    assert refusal(read_participant_key, pipe) == f"the participant's key {pipe} is not a file"
    large = secret(path / "large", b"x" * 1_000_001)
    assert (
        refusal(read_participant_key, large)
        == f"{large} is larger than 1 MB: it cannot be the participant's key"
    )
    long = path / ("x" * 300)
    assert (
        refusal(read_participant_key, long) == f"cannot read the participant's key {long}: File name too long"
    )


# ---------------------------------------------------------------- public keys that are refused


def test_texts_that_are_no_such_public_key_are_refused(other):
    ed25519 = line(Ed25519PrivateKey.generate())
    wrong = {
        ed25519: f"a.toml: this is a public key of another kind (ssh-ed25519), {EXPECTED}",
        f"{line(other)}\n{line(other)}": f"a.toml: this is not one line with one public key, {EXPECTED}",
        spki(other, Encoding.PEM).decode(): f"a.toml: this is not one line with one public key, {EXPECTED}",
        f"{line(other)[:-20]}": f"a.toml: this is no public key, {EXPECTED}",
        "ecdsa-sha2-nistp384 AAAA": f"a.toml: this is no public key, {EXPECTED}",
        "ecdsa-sha2-nistp384 Ä": f"a.toml: this is no public key, {EXPECTED}",
        "clinic-a.pub": "a.toml: the public key clinic-a.pub is not there",
        "ssh-keys/a.pub": "a.toml: the public key ssh-keys/a.pub is not there",
        "a\0b": "a.toml: cannot read the public key a\0b: embedded null byte",
    }
    assert {text: refusal(read_public_key, text, "a.toml") for text in wrong} == wrong


def test_a_private_key_in_place_of_the_public_one_is_refused_and_not_repeated(path, other):
    sentence = "this is a private key, to be shown to nobody; give the public one, named .pub"
    secret(path, openssh(other))
    assert refusal(read_public_key, path, "a.toml") == f"a.toml: {path}: {sentence}"
    assert refusal(read_public_key, path.read_text(), "a.toml") == f"a.toml: {sentence}"
    assert refusal(read_public_key, pkcs8(other).decode(), "a.toml") == f"a.toml: {sentence}"


def test_files_that_hold_no_public_key_are_refused(path):
    secret(path, b"\xff\xfe")
    assert refusal(read_public_key, path, "a.toml") == f"a.toml: {path} holds no public key, {EXPECTED}"
    secret(path, b"some text")
    assert refusal(read_public_key, path, str(path)) == f"{path}: this is no public key, {EXPECTED}"
    secret(path, b"# nothing but a remark\n")
    assert refusal(read_public_key, path, "a.toml").startswith(
        f"a.toml: {path}: this is not one line with one"
    )


def test_encoded_keys_of_another_kind_are_refused():
    sentence = f"NodeInfo: this is a key of another kind (EC on secp256r1), {EXPECTED}"
    p256 = ec.generate_private_key(P256)
    assert refusal(PublicKey.from_der, spki(p256), "NodeInfo") == sentence
    assert refusal(PublicKey.from_pem, spki(p256, Encoding.PEM), "NodeInfo") == sentence
    assert refusal(PublicKey.from_der, b"", "NodeInfo") == f"NodeInfo: this is no public key, {EXPECTED}"
    assert refusal(PublicKey.from_pem, b"", "NodeInfo") == f"NodeInfo: this is no public key, {EXPECTED}"


# ---------------------------------------------------------------- ssh-keygen


@pytest.fixture
def ssh_keygen(path):
    """ssh_keygen(arguments...) makes `path`."""
    program = shutil.which("ssh-keygen")
    if program is None:
        pytest.skip("ssh-keygen is not installed: whether its keys are read was not tried")
    path.parent.mkdir()

    def call(*arguments):
        subprocess.run([program, "-q", *arguments, "-f", path], check=True, timeout=30)

    return call


def test_a_key_that_ssh_keygen_made_is_read(ssh_keygen, path):
    ssh_keygen("-t", "ecdsa", "-b", "384", "-N", "", "-C", "clinic a")
    key = read_participant_key(path)
    assert key.public == read_public_key(path.with_name("clinic-a.key.pub"), "clinic-a")
    assert key.public.verify(key.sign(b"bid"), b"bid")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(["-N", "secret"], "is locked with a passphrase"), (["-N", "", "-m", "PKCS8"], "in another format")],
    ids=["locked", "PKCS8"],
)
def test_what_a_refusal_says_about_ssh_keygen_helps(ssh_keygen, path, arguments, sentence):
    ssh_keygen("-t", "ecdsa", "-b", "384", *arguments)
    assert sentence in refusal(read_participant_key, path)
    ssh_keygen("-p", "-P", arguments[1], "-N", "")
    read_participant_key(path)
