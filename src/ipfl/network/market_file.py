"""The operator's market (market.toml): an ordinary configuration, who may take part, and how they are reached."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from ipfl.config import PARTICIPANT_ID_PATTERN, Config, Table, read_toml
from ipfl.data.one_participant import Schema
from ipfl.engines.exchange import Member
from ipfl.errors import CheckpointError, ConfigError
from ipfl.market.rules import resolve_rule
from ipfl.methods.base import DEFAULT_RULE
from ipfl.network.key_files import is_public_line
from ipfl.network.keys import read_public_key
from ipfl.network.terms import checked
from ipfl.upkeep.membership import some

OWN_TABLES = ("network", "examples", "members")
LATER = "later"
NOT_HERE = {
    "participants": "participants bid for themselves, and [[members]] says who may",
    "data": "the data stays with the participants, and [examples] says what it looks like",
    "task_settings": "they belong to a data set of the catalogue",
    "partition": "everybody has its own data: nothing is shared out",
}


class NetworkTable(Table):
    """Where the market listens and how long it waits. Seconds throughout.

    `deadline_s`: of one round; `start_wait_s`: how long the first round waits for members that have not registered
    (0: for ever); `members_min`: with fewer there is no first round, and a round with fewer waits for them.
    `settle_wait_s`: how long, after the last round, it waits for those who are away to fetch their last bills.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    keys: str = "keys"
    deadline_s: Annotated[float, Field(ge=1, le=86_400)] = 120.0
    start_wait_s: Annotated[float, Field(ge=0, le=2_592_000)] = 0.0
    members_min: Annotated[int, Field(ge=2)] = 2
    settle_wait_s: Annotated[float, Field(ge=0, le=2_592_000)] = 60.0


class ExamplesTable(Table):
    """What every member's examples look like: tables have `columns`, arrays a `shape`.

    Of instructions for a language model `class_names` are the answers that all rows have; none: free text.
    """

    class_names: Annotated[tuple[str, ...], Field(strict=False)] = ()
    label: str = "label"
    columns: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] | None = None
    shape: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(strict=False, min_length=1)] | None = None

    @model_validator(mode="after")
    def _names_differ(self) -> "ExamplesTable":
        if len(set(self.class_names)) < len(self.class_names):
            raise ValueError("class_names has a name twice")
        return self

    def check(self, config: Config, where: str) -> None:
        """Raise `ConfigError` unless it says what is to be said of such a market's examples."""
        given = [name for name in ("columns", "shape") if getattr(self, name) is not None]
        if config.language is not None:
            if given:
                raise ConfigError(
                    f"{where}: examples.{given[0]} says nothing of instructions: take it out, or take [language] out"
                )
            return
        if len(given) != 1:
            raise ConfigError(
                f"{where}: examples: give columns (of tables) or shape (of one example of arrays), one of the two"
            )
        if len(self.class_names) < 2:
            raise ConfigError(
                f"{where}: examples.class_names: give at least 2 names, in the order of the outputs"
            )


class MemberRow(Table):
    """Who may take part: a name, and the public key, as text or as the path of a .pub file.

    With "later" for a key it is a place that is kept for somebody: nobody can take it until a key is given.
    """

    id: Annotated[str, Field(pattern=PARTICIPANT_ID_PATTERN)]
    key: str


class _Own(Table):
    network: NetworkTable = NetworkTable()
    examples: ExamplesTable = ExamplesTable()
    members: Annotated[tuple[MemberRow, ...], Field(strict=False, min_length=2)]


@dataclass(frozen=True, eq=False)
class Market:
    """A market file, read.

    Attributes:
      members: in the order of the file; the fingerprint of one without a key is empty.
      public_keys: OpenSSH's line of each key, by the member's name.
      first_keys: the fingerprints that the market began with, by name; they are part of what it is.
      keys: the folder of the operator's keys and certificates.
    """

    config: Config
    network: NetworkTable
    schema: Schema
    members: tuple[Member, ...]
    public_keys: dict[str, str]
    first_keys: dict[str, str]
    keys: Path

    @property
    def identity(self) -> str:
        """What messages name the market by: its configuration, its examples and the keys that it began with."""
        digest = hashlib.sha256(self.config.to_toml().encode())
        digest.update(repr(self.schema).encode())
        for name, fingerprint in self.first_keys.items():
            digest.update(f"{name} {fingerprint}\n".encode())
        return digest.hexdigest()

    @property
    def keyed(self) -> list[Member]:
        """The members that have a key, and so can come."""
        return [member for member in self.members if member.fingerprint]

    def begun_with(self, first_keys: Mapping[str, str]) -> "Market":
        """The market that an earlier version of this file began, with other keys for some members.

        Raises:
          CheckpointError: it had other members.
        """
        names = [member.participant_id for member in self.members]
        if list(first_keys) != names:
            raise CheckpointError(
                f"the market was begun with the members {some(list(first_keys))}, and its file now has {some(names)}: "
                "restore them; keys may be given, names may not"
            )
        return replace(self, first_keys=dict(first_keys))


def read_market(path: Path) -> Market:
    """Read and check market.toml; paths in it are taken from its own folder.

    Raises:
      ConfigError, KeyFileError: one sentence that names the key or the member.
    """
    tables = read_toml(path)
    own = checked(_Own, {name: tables.pop(name) for name in OWN_TABLES if name in tables}, str(path))
    for name, reason in NOT_HERE.items():
        if name in tables:
            raise ConfigError(f"{path}: a market over a network has no {name!r}: {reason}; take it out")
    config = hosted(Config.from_mapping(_hosted_task(tables), str(path)), path)
    own.examples.check(config, str(path))
    members: list[Member] = []
    texts: dict[str, str] = {}
    for row in own.members:
        if row.key == LATER:
            members.append(Member(row.id, "", _nobody))
            continue
        key = row.key if is_public_line(row.key) else path.absolute().parent / row.key
        public = read_public_key(key, f"{path}, member {row.id}")
        members.append(Member(row.id, public.fingerprint, public.verify))
        texts[row.id] = public.text
    _check_differ(members, str(path))
    if own.network.members_min > len(texts):
        raise ConfigError(
            f"{path}: network.members_min = {own.network.members_min}, but there are {len(texts)} members with keys"
        )
    examples = own.examples
    schema = Schema(examples.class_names, examples.label, examples.columns, examples.shape)
    first_keys = {member.participant_id: member.fingerprint for member in members}
    keys = path.absolute().parent / own.network.keys
    return Market(config, own.network, schema, tuple(members), texts, first_keys, keys)


def _nobody(signature: bytes, text: bytes) -> bool:
    """What a place without a key has signed."""
    return False


def _check_differ(members: Sequence[Member], where: str) -> None:
    for place, member in enumerate(members):
        for other in members[:place]:
            same_name = member.participant_id == other.participant_id
            if same_name or (member.fingerprint and member.fingerprint == other.fingerprint):
                what = "name" if same_name else "key"
                raise ConfigError(
                    f"{where}: members {other.participant_id} and {member.participant_id} have the same {what}: "
                    "each needs one of its own"
                )


def _hosted_task(tables: dict[str, Any]) -> dict[str, Any]:
    return {"task": "market", **tables}


def hosted(config: Config, path: Path) -> Config:
    """The configuration with what follows from everybody keeping its data to itself.

    Nobody has the others' test examples, so there is no common test set; and a buyer that tried models before it paid
    for them would have them for nothing, so unless the market says otherwise only copies are held back.
    """
    if config.language is not None and config.privacy is not None:
        raise ConfigError(
            f"{path}: adapters of language models are not trained privately: take [privacy] out"
        )
    if config.privacy is not None and config.method == "local":
        raise ConfigError(
            f"{path}: with the method 'local' nobody trains privately, and yet models would be sent: "
            "take [privacy] out or choose another method"
        )
    market = config.market
    if config.privacy is not None and market.eligibility == "on":
        raise ConfigError(
            f"{path}: trying models shows what training examples are like, which [privacy] is to hide: "
            'take market.eligibility = "on" out'
        )
    if market.eligibility == "auto":
        market = market.model_copy(update={"eligibility": "copies"})
    if market.allocation is None or market.payment is None:
        allocation, payment = resolve_rule(market.rule or DEFAULT_RULE)
        market = market.model_copy(update={"rule": None, "allocation": allocation, "payment": payment})
    evaluation = config.evaluation.model_copy(update={"common_examples_max": 0})
    engine = config.engine.model_copy(update={"block": 1})
    return config.model_copy(update={"market": market, "evaluation": evaluation, "engine": engine})
