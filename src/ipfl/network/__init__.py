"""The market over a network: keys, terms, the operator's side, and the participant's."""
