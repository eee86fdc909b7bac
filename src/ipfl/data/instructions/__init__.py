"""Instruction tasks: rows of instruction and response, from published files, one's own, or made up."""

from ipfl.data.instructions.rows import Instruction, InstructionData, Instructions, InstructionTask
from ipfl.data.instructions.template import prompt, template_text

__all__ = ["Instruction", "InstructionData", "InstructionTask", "Instructions", "prompt", "template_text"]
