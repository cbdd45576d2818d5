"""What OpenAI's Python client makes of `patina serve`: answers whole and streamed, a picture, log probabilities, errors.

    pip install openai
    python3 test/openai/check_client.py URL KEY MODEL PICTURE

Prints one JSON object with what it was answered; src/cli/serve.test.ts runs it where the client is installed.
"""
import base64
import json
import sys

import openai

url, key, model, picture = sys.argv[1:]
client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
with open(picture, "rb") as file:
    data = base64.b64encode(file.read()).decode()
content = [
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
    {"type": "text", "text": "Hello"},
]
request = {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 12}

whole = client.chat.completions.create(**request, logprobs=True, top_logprobs=2)
stream = client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True})
chunks = list(stream)


def error(client=client, **change):
    try:
        client.chat.completions.create(**{**request, **change})
    except openai.APIStatusError as fault:
        return [type(fault).__name__, fault.status_code, fault.code]
    return None


print(json.dumps({
    "models": [each.id for each in client.models.list()],
    "whole": whole.choices[0].message.content,
    "finish": whole.choices[0].finish_reason,
    "logprobs": len(whole.choices[0].logprobs.content),
    "streamed": "".join(each.choices[0].delta.content or "" for each in chunks if each.choices),
    "usage": [whole.usage.completion_tokens, chunks[-1].usage.completion_tokens],
    "errors": [
        error(model="none"),
        error(temperature=9),
        error(client=openai.OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0)),
    ],
}))
