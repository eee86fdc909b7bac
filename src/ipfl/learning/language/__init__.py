"""Language models: one frozen base, and participants' LoRA adapters as rows of one flat matrix."""
