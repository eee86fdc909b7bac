"""The table of a configuration that makes its run one of language models: a frozen base and adapters on it."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from ipfl.config.amounts import Table

TINY = "tiny"
"""The base that is made on the spot."""
PLACES = ("{instruction}", "{response}")


class LanguageConfig(Table):
    """Instruction tuning: participants share one frozen base model, train LoRA adapters of it and trade those.

    `base`: "tiny" (made on the spot), the folder of a causal language model, or its name on the hub (`revision`: of
    it). `rank`, `alpha`, `dropout`, `targets` (none = what PEFT takes for the architecture): of the adapters;
    `train_a` = false trains and trades B alone. `dtype`, `quant`: how the base is held. Rows longer than `max_tokens`
    are refused. `template`: "alpaca", or a text with {instruction} and {response}; `official_eval_template`: judge
    with the slightly other prompt of the paper's code.

    Training is by AdamW with training.lr and training.weight_decay, beta_1 = training.momentum, gradients cut to
    norm `clip` (0 = not at all); over the rounds the learning rate goes down a cosine to `lr_last` (none = it stays).
    `match`: how exact match is found, "forced" or "generated" (at most `max_new_tokens`). `score_choices`: also say
    how often the right answer is the likeliest of those that a row offers, by the sum or the mean over its tokens.
    """

    base: Annotated[str, Field(min_length=1)] = TINY
    revision: str | None = None
    rank: Annotated[int, Field(ge=1, le=1024)] = 8
    alpha: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: tuple[str, ...] = Field(default=(), strict=False)
    train_a: bool = True
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    quant: Literal["none", "8bit", "4bit"] = "none"
    max_tokens: Annotated[int, Field(ge=8, le=1_000_000)] = 512
    template: str = "alpaca"
    official_eval_template: bool = False
    lr_last: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None = None
    clip: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] = 1.0
    gradient_checkpointing: bool = False
    match: Literal["forced", "generated"] = "forced"
    max_new_tokens: Annotated[int, Field(ge=1, le=100_000)] = 256
    score_choices: Literal["no", "sum", "mean"] = "sum"

    @field_validator("template")
    @classmethod
    def _has_places(cls, value: str) -> str:
        if value == "alpaca":
            return value
        wrong = [place for place in PLACES if value.count(place) != 1]
        if wrong or not value.endswith(PLACES[1]):
            what = f"{wrong[0]} exactly once" if wrong else f"{PLACES[1]} at its end"
            raise ValueError(f'{value!r} must have {what}, or be "alpaca"')
        return value

    @model_validator(mode="after")
    def _one_eval_template(self) -> "LanguageConfig":
        if self.official_eval_template and self.template != "alpaca":
            raise ValueError('official_eval_template goes with template = "alpaca" only')
        return self
