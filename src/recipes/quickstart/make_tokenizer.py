"""Trains the tokenizer of the quickstart, laid out like Llama 3's, on the texts that the quickstart learns.

    patina quickstart            # leaves its records in runs/quickstart
    python make_tokenizer.py --data runs/quickstart --template TEMPLATE --out tokenizer

TEMPLATE is a file with the chat template, `LLAMA3_TEMPLATE` of src/text/llama3-template.ts. What lies in tokenizer/ was made with
tokenizers 0.23.3.
"""
import argparse
import json
import pathlib

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

# Few enough that the texts fill it: the special tokens, which stand at its end, have ids that the recipes know.
VOCABULARY = 400
SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<image>", "<pad>"]
PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
           r"|\s*[\r\n]+|\s+(?!\S)|\s+")
# Read alike by transformers 4 and 5.
CONFIG = {
    "bos_token": "<|begin_of_text|>",
    "clean_up_tokenization_spaces": False,
    "eos_token": "<|eot_id|>",
    "extra_special_tokens": {"image_token": "<image>"},
    "image_token": "<image>",
    "model_max_length": 10**30,
    "pad_token": "<pad>",
    "tokenizer_class": "PreTrainedTokenizerFast",
}


def texts(data):
    for name in ("captions.json", "questions.json"):
        for record in json.loads((data / name).read_text(encoding="utf-8")):
            for message in record["conversations"]:
                # What the chat template puts before a message.
                yield "user" if message["from"] == "human" else "assistant"
                yield "\n\n"
                yield message["value"].replace("<image>\n", "")


def train(data):
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL),
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(data), trainer)
    tokenizer.add_special_tokens(SPECIAL)
    assert tokenizer.get_vocab_size() == VOCABULARY
    begin = SPECIAL[0]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", pair=f"{begin} $A {begin} $B", special_tokens=[(begin, tokenizer.token_to_id(begin))])
    return tokenizer


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "template", "out"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    train(given.data).save(str(given.out / "tokenizer.json"))
    (given.out / "tokenizer_config.json").write_text(json.dumps(CONFIG, indent=2) + "\n", encoding="utf-8")
    (given.out / "chat_template.jinja").write_bytes(given.template.read_bytes())
