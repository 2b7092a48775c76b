import pytest

from bayesflow_server.models.wordings import says_overflow, says_refusal


@pytest.mark.parametrize(
    "message",
    [
        "prompt is too long: 213462 tokens > 200000 maximum",
        "input length and `max_tokens` exceed context limit: 90402 + 116650 > 204648",
        "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens",
        "Your input exceeds the context window of this model. Please adjust your input",
        "{'error': {'message': 'no', 'code': 'context_length_exceeded'}}",
        "This endpoint's maximum context length is 40960 tokens. However, you requested about 1",
        "The decoder prompt (length 10127) is longer than the maximum model length of 8192.",
        "The input (61709 tokens) is longer than the model's context length (40960 tokens).",
        "Requested token count exceeds the model's maximum context length of 131072 tokens.",
        "the request exceeds the available context size, try increasing it",
        "{'error': {'type': 'exceed_context_size_error', 'n_prompt_tokens': 1407, 'n_ctx': 256}}",
        "Requested tokens (2285) exceed context window of 2048",
        "the input length exceeds the context length",
        "Input length 6491 exceeds context length 1500",
        "The number of tokens to keep is greater than the context length",
        "This model's maximum prompt length is 131072 but the request contains 537812 tokens",
        "Please reduce the length of the messages or completion.",
        "The input token count (1196265) exceeds the maximum number of tokens allowed (1048575)",
        "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4000 `inputs` tokens",
        "Input is too long for requested model.",
        "{'error': {'type': 'request_too_large', 'message': 'Request exceeds the maximum size'}}",
    ],
)
def test_the_words_of_real_servers_are_known(message: str) -> None:
    assert says_overflow(message)


@pytest.mark.parametrize(
    "message",
    [
        "messages: text content blocks must be non-empty",
        "Rate limit reached: too many tokens per minute, please try again in 2 s",
        "max_tokens must be at least 1",
        "You exceeded your current quota, please check your plan and billing details.",
        "temperature: range: -1..1",
    ],
)
def test_other_refusals_are_taken_for_no_outcome(message: str) -> None:
    assert not says_overflow(message)
    assert not says_refusal(message)


@pytest.mark.parametrize(
    "message",
    [
        "Output blocked by content filtering policy",
        "The response was filtered due to the prompt triggering Azure OpenAI's content management"
        " policy. Please modify your prompt and retry.",
        "{'error': {'code': 'content_filter', 'message': 'no'}}",
        "{'error': {'code': 'content_policy_violation', 'message': 'no'}}",
        "some-model requires moderation on this provider. Your input was flagged for 'violence'.",
    ],
)
def test_a_question_that_will_not_be_answered_is_known(message: str) -> None:
    assert says_refusal(message)
    assert not says_overflow(message)
