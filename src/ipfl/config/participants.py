"""The tables that say who takes part."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, model_validator

from ipfl.config.amounts import (
    NUM_PARTICIPANTS_MAX,
    PARTICIPANT_ID_PATTERN,
    PROHIBITIVE_COST,
    Amount,
    Drawn,
    Factor,
    Given,
    Scaled,
    Table,
    form,
    form_of_valuation,
)

Kind = Literal["trader", "buyer", "seller", "attacker"]


class ParticipantConfig(Table):
    """One participant, described by itself.

    `report_*` are misreports: what it bids is the factor times the truth (1 = the truth).
    """

    id: Annotated[str, Field(pattern=PARTICIPANT_ID_PATTERN)]
    kind: Kind = "trader"
    valuation: Amount
    export_cost: Amount
    conduct: str = "honest"
    gain_curve: str | None = None
    report_num_examples: Factor = 1.0
    report_valuation: Factor = 1.0
    report_export_cost: Factor = 1.0


class LieConfig(Table):
    """What liars report: each factor times the truth."""

    num_examples: Factor = 1.0
    valuation: Factor = 1.0
    export_cost: Factor = 1.0


class ParticipantsConfig(Table):
    """Participants described by a count and distributions, by `rows`, or by a CSV `file`.

    With a count, the kinds other than trader are given to the last participants, in the order buyer, seller,
    attacker. A buyer's export cost is prohibitive, a seller's valuation is 0, an attacker's both are 0.
    The first `liars` participants report `lie` times the truth.
    """

    count: Annotated[int, Field(ge=1, le=NUM_PARTICIPANTS_MAX)] | None = None
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,48}$")] = "participant-"
    buyers: Annotated[int, Field(ge=0)] = 0
    sellers: Annotated[int, Field(ge=0)] = 0
    attackers: Annotated[int, Field(ge=0)] = 0
    attack: str = "sign_flip"
    buyer_export_cost: Amount = PROHIBITIVE_COST
    liars: Annotated[int, Field(ge=0)] = 0
    lie: LieConfig = LieConfig()
    valuation: Annotated[Given | Drawn | Scaled, Discriminator(form_of_valuation)] = 10_000.0
    export_cost: Annotated[Given | Drawn, Discriminator(form)] = 0.5
    file: str | None = None
    rows: Annotated[tuple[ParticipantConfig, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _kinds_fit(self) -> "ParticipantsConfig":
        others = self.buyers + self.sellers + self.attackers
        if self.count is not None and others > self.count:
            raise ValueError(f"{others} buyers, sellers and attackers are more than count = {self.count}")
        if self.count is not None and self.liars > self.count:
            raise ValueError(f"{self.liars} liars are more than count = {self.count}")
        seen: set[str] = set()
        for row in self.rows:
            if row.id in seen:
                raise ValueError(f"participant id {row.id!r} stands twice")
            seen.add(row.id)
        return self
