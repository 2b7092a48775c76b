"""Telling a prompt that does not fit from any other refused request.

There is no standard: each server says it in its own words. The patterns follow what they were seen
to send; the OpenAI and Anthropic adapters ask.
"""

import re

__all__ = ["says_overflow"]

_WORDINGS = (
    r"prompt is too long",  # Anthropic, Bedrock
    r"input is too long",
    r"request_too_large",  # Anthropic, HTTP 413
    r"context_length_exceeded",  # OpenAI's code, also Azure's and LiteLLM's
    r"maximum context length",  # OpenAI, vLLM, OpenRouter, DeepSeek, Mistral, SGLang
    r"maximum (?:model|prompt|input) length",  # vLLM, xAI, TensorRT-LLM
    r"exceed_context_size",  # llama.cpp's code
    r"exceed(?:s|ed)?\W+(?:\w+\W+){0,4}?context",  # llama.cpp, Ollama, LM Studio, newer OpenAI
    r"(?:longer|greater|larger) than (?:\w+\W+){0,4}?context (?:length|window|size)",  # SGLang
    r"context (?:length|window|size|limit)(?: was| is)? exceed",
    r"reduce the length of the messages",  # Groq
    r"input token count.{0,60}exceed",  # Gemini
    r"tokens`? \+ `?max_new_tokens`? must be",  # TGI, Together
    r"exceeded model token limit",  # Kimi
)
_OVERFLOW = re.compile("|".join(_WORDINGS), re.IGNORECASE)


def says_overflow(message: str) -> bool:
    """Whether a refusal says that the prompt, or prompt and answer together, are too long."""
    return _OVERFLOW.search(message) is not None
