"""What a refused request says about its reason, in each server's own words.

There is no standard. The patterns follow what servers were seen to send: a prompt that does not fit
and a question that will not be answered are outcomes, any other refused request is an error.
"""

import re

__all__ = ["says_account", "says_overflow", "says_refusal"]

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
_REFUSALS = (
    r"content[ _-]?filter",  # Anthropic ("blocked by content filtering policy"), OpenAI, Azure
    r"content[ _](?:management )?policy",  # OpenAI, Azure
    r"(?:input|prompt) was flagged|requires moderation",  # OpenAI, OpenRouter
)
# Said with status 400 too, and no request's fault: Gemini's keys and regions, Anthropic's credit.
_ACCOUNT = (
    r"api[ _-]?key|authenti|unauthori[sz]|permission|billing|quota|credit|account|organi[sz]ation",
    r"suspended|disabled|deprecated|retired|\b(?:region|location|country)\b",
    r"model\b.{0,60}(?:not (?:exist|found|supported|available)|unknown|invalid)",
    r"(?:unknown|invalid|no such|unsupported) model",
)
_ACCOUNTS = re.compile("|".join(_ACCOUNT), re.IGNORECASE)
_OVERFLOW = re.compile("|".join(_WORDINGS), re.IGNORECASE)
_REFUSAL = re.compile("|".join(_REFUSALS), re.IGNORECASE)


def says_overflow(message: str) -> bool:
    """Whether a refusal says that the prompt, or prompt and answer together, are too long."""
    return _OVERFLOW.search(message) is not None


def says_refusal(message: str) -> bool:
    """Whether a refusal says that the content itself is not wanted."""
    return _REFUSAL.search(message) is not None


def says_account(message: str) -> bool:
    """Whether a refusal is about the key, the account or the model, and not about the request."""
    return _ACCOUNTS.search(message) is not None
