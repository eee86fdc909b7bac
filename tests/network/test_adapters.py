"""Adapters of a language model over the network: the same market as in one process, the rows stay where they are."""

import json

import pytest

import ipfl
import tiny_language
from ipfl.errors import ConfigError
from network.markets import BIDS, LocalTransport, World

pytestmark = pytest.mark.slow  # loading transformers takes most of it

RULES = """
rounds = 2
seed = 1
[training]
steps = 2
batch_size = 4
lr = 0.01
[market]
lam = 0.05
rule = "truthful"
eligibility = "copies"
[language]
base = "{base}"
rank = 2
[network]
deadline_s = 30.0
{examples}
"""
TABLES = ("ledger.csv", "edges.csv")


class Assistants(World):
    """Participants with ten questions each, of the kind that the tiny base knows words for."""

    def write(self) -> None:
        self.base = tiny_language.save_model(self.folder / "base")
        for place, name in enumerate(self.names):
            self.files[name].unlink()
            self.files[name] = self.folder / "data" / f"{name}.jsonl"
            rows = [
                {"instruction": prompt, "response": tiny_language.CHOICES[(row * (place + 1)) % 3]}
                for row, prompt in enumerate(tiny_language.PROMPTS * 2)
            ]
            self.files[name].write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.examples = f"[examples]\nclass_names = {sorted(tiny_language.CHOICES)}\n"
        self.write_terms()
        self.rewrite()

    def rewrite(self) -> None:
        members = "".join(f'[[members]]\nid = "{name}"\nkey = "keys/{name}.pub"\n' for name in self.names)
        text = RULES.format(base=self.base, examples=self.examples)
        (self.folder / "market.toml").write_text(text + members)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return Assistants(tmp_path_factory.mktemp("assistants"), names=("hospital-a", "hospital-b", "hospital-c"))


@pytest.fixture(scope="module")
def hosted(world):
    transport = LocalTransport({world.fingerprint(name): world.node(name).answer for name in world.names})
    return world.host(transport), transport


def test_bills_and_adapters_are_those_of_a_run_in_one_process(world, hosted):
    run, _ = hosted
    rows = [{"id": name, "valuation": BIDS[name][0], "export_cost": BIDS[name][1]} for name in world.names]
    config = world.market.config.model_dump() | {
        "data": str(world.folder / "data"),
        "participants": {"rows": rows},
    }
    alone = ipfl.run(ipfl.Config.model_validate(config), out=world.folder / "alone")
    assert world.refused == []
    for name in TABLES:
        assert (run.path / name).read_bytes() == (alone.path / name).read_bytes()
    assert len(run.edges) > 0
    for name in world.names:
        adapter = "adapter_model.safetensors"
        ours = (world.folder / "homes" / name / adapter).read_bytes()
        assert ours == (alone.path / "participants" / name / adapter).read_bytes()
    for here, there in zip(run.rounds, alone.rounds, strict=True):
        assert here["participants"] == there["participants"]


def test_no_row_of_a_participant_is_in_any_message(world, hosted):
    _, transport = hosted
    everything = b"".join(message for _, _, message in transport.traffic)
    for prompt in tiny_language.PROMPTS:
        assert prompt.encode() not in everything
    assert len(everything) > 10_000


def test_another_base_is_refused_where_it_is(world, tmp_path):
    other = Assistants(tmp_path, names=world.names)
    market = other.market
    tiny_language.save_model(other.base, seed=5)
    from ipfl.network.hosting import Hosting

    hosting = Hosting.of(market, LocalTransport({}), other.operator, lambda event: None, lambda text: None)
    offer = dict(hosting.engine.offer) | {"base": "0" * 64}
    from ipfl.network.workbench import Workbench

    with pytest.raises(ConfigError, match="base model here has the fingerprint"):
        Workbench(offer, "hospital-a", 0, 3, other.files["hospital-a"], 7)


def test_examples_of_tables_say_nothing_of_instructions(world, tmp_path):
    wrong = Assistants(tmp_path, names=world.names)
    wrong.examples = "[examples]\nshape = [1, 8, 8]\n"
    wrong.rewrite()
    with pytest.raises(ConfigError, match=r"examples\.shape says nothing of instructions"):
        _ = wrong.market
