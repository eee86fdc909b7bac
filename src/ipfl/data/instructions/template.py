"""From an instruction to the text that a model sees."""

from ipfl.config import LanguageConfig

ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction} \n\n### Response: {response}"
)
OFFICIAL_EVAL = ALPACA.replace("{instruction} \n", "{instruction}\n").replace(": {response}", ":{response}")
"""The prompt that the paper's code judges with: without the two spaces that its training prompt has."""


def template_text(language: LanguageConfig, *, judging: bool = False) -> str:
    """The template in force, with its two places.

    >>> template_text(LanguageConfig()).endswith("### Response: {response}")
    True
    """
    if language.template != "alpaca":
        return language.template
    return OFFICIAL_EVAL if judging and language.official_eval_template else ALPACA


def prompt(template: str, instruction: str) -> str:
    """The text before the response.

    >>> prompt("Q: {instruction}\\nA: {response}", "Why?")
    'Q: Why?\\nA: '
    """
    before, after = template.split("{instruction}")
    return before + instruction + after.removesuffix("{response}")
