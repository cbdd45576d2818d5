"""What the harnesses' own functions make of answers, question by question.

    python test/eval/make_scores.py --llava DIR --vlmevalkit DIR --lmms-eval DIR --xtuner DIR test/fixtures/eval

Each DIR is a checkout. Their modules are run as they lie there; of files that import a whole training program at their top, the
functions are taken out by name and run alone. Needs numpy, pandas and loguru. Writes
`scores.json.gz`: answers, questions, and the scores of each harness and task in the same order.
"""

import argparse
import ast
import gzip
import importlib.util
import io
import json
import random
import re
import string
import subprocess
import sys
import tempfile
import types
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pandas as pd

random.seed(18)
WORDS = "yes no Yes No YES NO not none two dog The a an cat red stop 3 3.5 1,000 don't dont couldntve somebody'd it's sign Coca-Cola".split()
CHINESE = ["是", "不是", "答案是B", "选项A。", "图中没有狗", "没有", "是的，有一只猫。", "１２３", "ＡＢ", "B。", "42，17，88，90"]
REFUSALS = [
    "Sorry, I can't help with images of people yet.", "I'm sorry, but without the image provided I cannot say.",
    "Cannot determine the answer", "I can't process this file.", "As an AI I am unable to see it.",
    "Failed to obtain answer via API", "There is no way to tell.", "I do not know.",
]
LISTS = ["1. Yes\n2. No", "- A\n- B", "A, B, C", "A and B", "[A]", "(B)", "B: cat; C: dog", "yes, no", "yes\nno", "[12, 30, 55, 90]",
         "{<12><30><55><90>}", "[0.1, 0.2, 0.5, 0.9]", "A\tB", "red, blue", "dog; cat", '["dog"]', "a/b", "AB", "BA", "ABCD", "CD is it"]
NEGATIONS = ["No, there is not.", "There is no dog. Yes.", "It is not a cat", "Nope", "not at all", "No.", "no", "Not sure", "isn't",
             "There isn't a dog in the image.", "yes, but not red", "Yes, there is no doubt", "None", "nothing", "No way; yes.", "No,yes"]
LETTERS = ["A", "B", "C", "D", "E", "Z", "A.", "B. cat", "C.", "D .", "(C)", "a", "b", "Answer: B", "The answer is B.", "The answer is C",
           "The answer is **D**", "the correct answer is a", "The answer is B. The answer is C.", "The answer is B\n", "Option A is right",
           "A dog is what I see in this picture of a park", "I think that it is B because of the light in it", "É.", "ß.", "AA", "A B"]
EDGES = ["", " ", "\n", ".", ",", "yes.", " Yes ", "YES!", "yes?", "y", "n", "Y.", "N", "no way", "yesno", "noyes", "Yes, no", "x", "ye s", "'yes'",
         "yes\u3000", "\x1cyes\x1d", "\ufeffyes", "ＹＥＳ", "İyes", "ſ", "answer iſ B", "yes\0", "a" * 300, "." * 40 + "yes", "the", "an apple", "one",
         "two dogs", "ten", "3.5", "1,000", ".5", "5.", "U.S.A.", "mr. x", "o'clock", "oclock", "dont", "y'allll", "'ows'at", "coca-cola", "coca cola",
         "dog's", "the dog's", "12 30 55 90", "١٢ ٣٠ ٥٥ ٩٠", "12 30 55", "12 30 55 90 1", "-12 30 55 90", "12.5 30 55 90", "900 900 999 999", "90 90 10 10"]


def texts():
    made = EDGES + LETTERS + NEGATIONS + LISTS + REFUSALS + CHINESE
    # Each alone and with what people and models put around.
    around = ["{}.", "{}\n", "Answer: {}", "{} {}", "I think {}", "{}, of course", "“{}”", "{}!\n{}"]
    pool = list(made)
    for text in made:
        pool += [form.format(text, random.choice(made)) for form in random.sample(around, 3)]
    while len(pool) < 2400:
        marks = random.choice(["", ".", ",", "!", "?", ";", " -", "/", " (", ")"])
        pool.append(" ".join(random.choices(WORDS + list("ABCD"), k=random.randint(1, 7))) + marks)
    return pool


OPTIONS = [
    {"A": "cat", "B": "dog"}, {"A": "red", "B": "blue", "C": "green", "D": "none"}, {"A": "2", "B": "3", "C": "12"},
    {"A": "is it", "B": "It is not", "C": "yes", "D": "no", "E": "a"}, {"A": "猫", "B": "狗", "C": "图中没有狗"},
    {"A": "The dog", "B": "the Dog", "C": "sign", "D": "İ"},
]
PEOPLE = [
    ["yes"] * 10, ["no"] * 4 + ["none"] * 2 + ["not"] * 4, ["coca-cola"] * 5 + ["coca cola"] * 3 + ["Coke", "the coca cola"],
    ["1,000", "1000", "1000", "3.5", "3.5", "3", "two", "2", "2", "ten"], ["dont", "don't", "don't", "stop", "STOP", "stop.", "a stop", "dog's", "it's", "3"],
    ["A", "a", "an", "b", "B", "the dog", "dog", "dog", "red sign", "sign red"],
]
BOXES = [([64, 144, 206, 288], 480, 640), ([10.5, 20.25, 300, 200], 333, 500), ([0, 0, 100, 100], 100, 100), ([450, 270, 49, 29], 300, 500)]


def functions(path, names, scope):
    """Functions and classes of a file by name, run without what else it does at its top."""
    tree = ast.parse(Path(path).read_text())
    found = [node for node in ast.walk(tree) if getattr(node, "name", None) in names]
    assert {node.name for node in found} >= set(names), (path, names)
    for node in found:
        node.decorator_list = [d for d in node.decorator_list if getattr(d, "id", "") in ("classmethod", "staticmethod")]
        exec(compile(ast.Module([node], []), str(path), "exec"), scope)
    return scope


def module(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def commit(path):
    return subprocess.run(["git", "-C", path, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip() or "unknown"


def main():
    parser = argparse.ArgumentParser()
    for name in ("llava", "vlmevalkit", "lmms-eval", "xtuner"):
        parser.add_argument(f"--{name}", required=True)
        parser.add_argument(f"--{name}-commit", default="")
    parser.add_argument("out")
    args = vars(parser.parse_args())
    llava, kit, lmms, xtuner = (Path(args[name]) for name in ("llava", "vlmevalkit", "lmms_eval", "xtuner"))
    answers = texts()
    n = len(answers)
    pick = lambda pool: [pool[i % len(pool)] for i in range(n)]
    random.shuffle(answers)
    yes = [random.random() < 0.5 for _ in range(n)]
    options = pick(OPTIONS)
    right = [random.choice(list(each)) for each in options]
    people, boxes = pick(PEOPLE), pick(BOXES)
    kinds = [["random", "popular", "adversarial"][i % 3] for i in range(n)]
    # A third of the answers is near the right one, each in its way.
    for i in range(0, n, 3):
        (x, y, w, h), high, wide = boxes[i]
        near = [int(100 * each) + random.randint(-9, 9) for each in (x / wide, y / high, (x + w) / wide, (y + h) / high)]
        said = random.choice([right[i], right[i], random.choice(people[i]), ["no", "yes"][yes[i]], ["Nope", "Yes"][yes[i]], "{<%d><%d><%d><%d>}" % tuple(map(abs, near))])
        answers[i] = random.choice(["{}", "{}", "{}.", "{} ", "{}. so it is", "The answer is {}.", "It is {}, I think", "Answer: {}", "the {}"]).format(said)
    # Some pairs of turns are right, or nearly.
    for i in range(4, n - 1, 14):
        for turn in (i, i + 1):
            answers[turn] = random.choice(["{}", "{}.", "({})", "{}. none", "Answer: {}"]).format(random.choice(["ABCD"[turn % 4]] * 5 + ["A"]))
    scores, totals = {}, {}

    # --- LLaVA
    pope = module(llava / "llava/eval/eval_pope.py", "eval_pope")
    said = []
    for text, label in zip(answers, yes):
        given = [{"text": text}]
        with tempfile.NamedTemporaryFile("w") as file, redirect_stdout(io.StringIO()):
            file.write(json.dumps({"label": "yes" if label else "no"}))
            file.flush()
            try:
                pope.eval_pope(given, file.name)
            except ZeroDivisionError:
                pass  # of the shares, after the answer was read
        said.append(given[0]["text"])
    scores["llava/pope"] = [int((a == "yes") == b) for a, b in zip(said, yes)]
    for kind in set(kinds):
        own = [i for i in range(n) if kinds[i] == kind]
        with tempfile.NamedTemporaryFile("w") as file, redirect_stdout(io.StringIO()) as printed:
            file.write("\n".join(json.dumps({"label": "yes" if yes[i] else "no"}) for i in own))
            file.flush()
            pope.eval_pope([{"text": answers[i]} for i in own], file.name)
        lines = dict(line.split(": ") for line in printed.getvalue().splitlines() if ": " in line)
        totals[f"llava/pope/{kind}"] = {name: float(lines[name]) for name in ("Accuracy", "Precision", "Recall", "F1 score", "Yes ratio")}

    source = (llava / "llava/eval/eval_science_qa.py").read_text()
    letters = ["A", "B", "C", "D", "E"]
    problems = {str(i): {"choices": list(options[i].values()), "answer": letters.index(right[i])} for i in range(n)}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "pid_splits.json").write_text(json.dumps({"test": list(problems)}))
        (folder / "problems.json").write_text(json.dumps(problems))
        lines = [json.dumps({"question_id": str(i), "text": text, "prompt": "<image>"}) for i, text in enumerate(answers)]
        (folder / "answers.jsonl").write_text("\n".join(lines))
        command = [sys.executable, str(llava / "llava/eval/eval_science_qa.py"), "--base-dir", str(folder), "--result-file", str(folder / "answers.jsonl"),
                   "--output-file", str(folder / "out.json"), "--output-result", str(folder / "result.json")]
        subprocess.run(command, check=True, capture_output=True)
        results = json.loads((folder / "result.json").read_text())["results"]
    scores["llava/scienceqa"] = [int(results[str(i)] == letters.index(right[i])) for i in range(n)]

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "answers.jsonl").write_text("\n".join(json.dumps({"question_id": i, "text": text}) for i, text in enumerate(answers)))
        command = [sys.executable, str(llava / "scripts/convert_gqa_for_eval.py"), "--src", f"{folder}/answers.jsonl", "--dst", f"{folder}/predictions.json"]
        subprocess.run(command, check=True, capture_output=True)
        predictions = json.loads((Path(folder) / "predictions.json").read_text())
    # What the official script compares.
    scores["llava/gqa"] = [int(each["prediction"] == gt[0]) for each, gt in zip(predictions, people)]

    sys.modules["tqdm"] = types.SimpleNamespace(tqdm=lambda each: each)
    m4c = module(llava / "llava/eval/m4c_evaluator.py", "m4c").TextVQAAccuracyEvaluator()
    scores["llava/textvqa"] = [m4c.eval_pred_list([{"pred_answer": text, "gt_answers": given}]) for text, given in zip(answers, people)]

    # --- VLMEvalKit
    scope = {"re": re, "string": string, "np": np, "pd": pd, "os": __import__("os"), "cp": __import__("copy"), "logger": None, "defaultdict": __import__("collections").defaultdict}
    smp = [path for path in (kit / "vlmeval/smp").glob("*.py") if "def process_punctuation" in path.read_text()][0]
    functions(smp, ["process_punctuation"], scope)
    functions(kit / "vlmeval/dataset/utils/yorn.py", ["YOrN_Extraction", "POPE_rating", "MME_rating"], scope)
    matching = kit / "vlmeval/utils/matching_util.py"
    scope["_VERBOSE_ANSWER_RE"] = eval(re.search(r"_VERBOSE_ANSWER_RE = (.*)", matching.read_text()).group(1), scope)
    functions(matching, ["can_infer_option", "can_infer_text", "can_infer"], scope)
    choice = kit / "vlmeval/dataset/utils/multiple_choice.py"
    scope.update(cn_string=lambda text: False, build_option_str=lambda each: "", build_prompt=lambda *each: "")
    functions(choice, ["build_choices", "extract_answer_from_item", "eval_vanilla", "prefetch_answer", "prefetch_circular_group"], scope)
    scope.update(istype=lambda text, kind: text.startswith("["), Optional=None)
    functions(kit / "vlmeval/dataset/utils/vqa_eval.py", ["_process_digit_article", "process_answer", "process_line"], scope)
    said = [scope["YOrN_Extraction"](text) for text in answers]
    truth = ["Yes" if each else "No" for each in yes]
    scores["vlmevalkit/pope"] = [int(a == b) for a, b in zip(said, truth)]
    frame = pd.DataFrame({"index": range(n), "answer": truth, "extracted": said, "score": [a == b for a, b in zip(said, truth)]})
    frame["category"] = [",".join(sorted({kinds[i], kinds[i // 3]})) for i in range(n)]
    scope["load"] = lambda file: file
    rating = scope["POPE_rating"](frame.copy())
    totals["vlmevalkit/pope"] = {row["split"]: {"f1": row["Overall"], "accuracy": row["acc"], "precision": row["precision"], "recall": row["recall"]}
                                 for _, row in rating.iterrows()}
    mme_kinds = "OCR artwork celebrity color count existence landmark position posters scene code_reasoning commonsense_reasoning numerical_calculation text_translation".split()
    frame["category"] = [mme_kinds[i // 2 % len(mme_kinds)] for i in range(n)]
    frame["image_path"] = [f"{i // 2}.jpg" for i in range(n)]
    d2df = lambda each: each
    scope["d2df"] = d2df
    rated = scope["MME_rating"](frame.copy())
    totals["vlmevalkit/mme"] = {name: float(value) for name, value in rated.items()}
    items = [{**each, "question": "q", "prediction": text, "GT": gt} for each, text, gt in zip(options, answers, right)]
    scores["vlmevalkit/choice"] = [scope["eval_vanilla"](None, {**item})["hit"] for item in items]
    circular = pd.DataFrame([{**OPTIONS[1], "question": "q", "prediction": text, "GT": "ABCD"[i % 4]} for i, text in enumerate(answers)])
    groups = [circular.iloc[i:i + 2] for i in range(0, n - 1, 2)]
    scores["vlmevalkit/mmbench"] = [(scope["prefetch_circular_group"](each) or {"hit": 0})["hit"] for each in groups]
    line = lambda text, gt: {"prediction": text, "answer": repr(gt) if isinstance(gt, list) else gt}
    scores["vlmevalkit/textvqa"] = [float(np.mean(scope["process_line"](line(text, gt))["match"])) for text, gt in zip(answers, people)]
    scores["vlmevalkit/gqa"] = [scope["process_line"](line(text, gt[0]), method="accuracy")["match"][0] for text, gt in zip(answers, people)]

    # --- lmms-eval
    tasks = lmms / "lmms_eval/tasks"
    scope = {"defaultdict": __import__("collections").defaultdict, "statistics": __import__("statistics"), "np": np, "re": re, "string": string,
             "eval_logger": types.SimpleNamespace(info=print, warning=print)}
    scope["EvalAIAnswerProcessor"] = module(tasks / "_task_utils/vqa_eval_metric.py", "vqa").EvalAIAnswerProcessor
    pope = module(tasks / "pope/utils.py", "lmms_pope")
    # A task hands results on as its answers without blanks at their ends.
    stripped = [text.strip() for text in answers]
    rows = [pope.pope_process_results({"question_id": i, "answer": "yes" if yes[i] else "no"}, [text])["pope_accuracy"] for i, text in enumerate(stripped)]
    scores["lmms-eval/pope"] = [row["score"] for row in rows]
    names = ("accuracy", "precision", "recall", "f1_score", "yes_ratio")
    totals["lmms-eval/pope"] = {name: getattr(pope, f"pope_aggregate_{name}")(rows) for name in names}
    source = ast.parse((tasks / "mme/utils.py").read_text())
    for node in source.body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "eval_type_dict":
            exec(compile(ast.Module([node], []), "mme", "exec"), scope)
    functions(tasks / "mme/utils.py", ["parse_pred_ans", "mme_process_results", "mme_aggregate_results"], scope)
    rows = [scope["mme_process_results"]({"question_id": i // 2, "answer": truth[i], "category": frame["category"][i]}, [text]) for i, text in enumerate(stripped)]
    scores["lmms-eval/mme"] = [list(row.values())[0]["score"] for row in rows]
    with redirect_stdout(io.StringIO()):
        totals["lmms-eval/mme"] = {name: scope["mme_aggregate_results"]([row[f"mme_{name}_score"] for row in rows if f"mme_{name}_score" in row])
                                   for name in ("perception", "cognition")}
    functions(tasks / "scienceqa/utils.py", ["sqa_doc_to_target", "sqa_process_results"], scope)
    docs = [{"choices": list(each.values()), "answer": letters.index(gt)} for each, gt in zip(options, right)]
    scores["lmms-eval/scienceqa"] = [scope["sqa_process_results"](doc, [text])["exact_match"] for doc, text in zip(docs, stripped)]
    functions(tasks / "textvqa/utils.py", ["textvqa_process_results"], scope)
    scores["lmms-eval/textvqa"] = [scope["textvqa_process_results"]({"answers": list(gt), "question_id": 0}, [text])["exact_match"] for text, gt in zip(stripped, people)]
    functions(lmms / "lmms_eval/api/metrics.py", ["exact_match_hf_evaluate"], scope)
    exact = lambda text, gt: float(scope["exact_match_hf_evaluate"](predictions=[text], references=[gt], ignore_case=True, ignore_punctuation=True)["exact_match"])
    scores["lmms-eval/gqa"] = [exact(text, gt[0]) for text, gt in zip(stripped, people)]

    package = types.ModuleType("lmms_eval.tasks._task_utils.mcq_extract")
    package.extract_mcq_answer = module(tasks / "_task_utils/mcq_extract.py", "mcq").extract_mcq_answer
    for name in ("lmms_eval", "lmms_eval.tasks", "lmms_eval.tasks._task_utils"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules[package.__name__] = package
    sys.modules["requests"] = types.ModuleType("requests")
    loguru = sys.modules["loguru"] = types.ModuleType("loguru")
    loguru.logger = types.SimpleNamespace(info=lambda *each: None)
    judge = module(tasks / "mmbench/mmbench_evals.py", "mmbench_evals").MMBench_Evaluator()
    frame = pd.DataFrame([{**OPTIONS[1], "question": "q", "prediction": text, "index": i} for i, text in enumerate(stripped)])
    truths = {i: "ABCD"[i % 4] for i in range(n)}
    scores["lmms-eval/mmbench"] = [judge.eval_sub_data(frame.iloc[i:i + 2], truths, static_only=True) for i in range(0, n - 1, 2)]
    few = pd.DataFrame([{**{c: "nan" for c in "ABCD"}, **each, "question": "q", "prediction": text, "index": i} for i, (each, text) in enumerate(zip(options, stripped))])
    scores["lmms-eval/mmbench/alone"] = [judge.eval_sub_data(few.iloc[i:i + 1], dict(enumerate(right)), static_only=True) for i in range(n)]
    sys.modules["datasets"] = types.SimpleNamespace(Dataset=None)
    rec = module(tasks / "refcoco/utils_rec.py", "utils_rec")
    # Boxes as these models are asked for them.
    numbers = lambda found: "[%s]" % ", ".join(f"{int(each) / 100:g}" for each in found.groups())
    listed = [re.sub(r"\{<(\d+)><(\d+)><(\d+)><(\d+)>\}", numbers, text) for text in answers]
    near = lambda box, h, w: [box[0] / w, box[1] / h, (box[0] + box[2]) / w, (box[1] + box[3]) / h]
    rows = [rec.refcoco_bbox_rec_process_result({"question_id": i, "answer": "q", "bbox": near(*boxes[i])}, [text])["refcoco_IoU"] for i, text in enumerate(listed)]
    with redirect_stdout(io.StringIO()):
        scores["lmms-eval/refcoco"] = [rec.refcoco_bbox_rec_acc05([row]) for row in rows]
        totals["lmms-eval/refcoco"] = {name: getattr(rec, f"refcoco_bbox_rec_{name}")(rows) for name in ("iou", "acc01", "acc03", "acc05", "acc07", "acc09", "center_acc")}

    # --- XTuner
    scope = {"re": re, "print": lambda *each: None}
    functions(xtuner / "xtuner/dataset/refcoco_json.py", ["normalize_bbox"], scope)
    scope["RefCOCOJsonEvalDataset"] = types.SimpleNamespace(normalize_bbox=lambda *each: scope["normalize_bbox"].__func__(None, *each))
    functions(xtuner / "xtuner/tools/eval_refcoco.py", ["eval_iou"], scope)
    scores["xtuner/refcoco"] = [scope["eval_iou"]([{"ans": text, "bbox": box, "height": h, "width": w}]) for text, (box, h, w) in zip(answers, boxes)]
    functions(xtuner / "xtuner/tools/mmbench.py", ["eval_sub_data"], scope)
    rows = pd.DataFrame([{"prediction": text, "index": i} for i, text in enumerate(answers)])
    truths = {i: "ABCD"[i % 4] for i in range(n)}
    scores["xtuner/mmbench"] = [scope["eval_sub_data"](rows.iloc[i:i + 2], truths) for i in range(0, n - 1, 2)]

    out = Path(args["out"])
    out.mkdir(parents=True, exist_ok=True)
    questions = {"answers": answers, "listed": listed, "yes": [int(each) for each in yes], "kinds": kinds, "right": right, "options": OPTIONS, "people": PEOPLE,
                 "boxes": [{"bbox": box, "height": h, "width": w} for box, h, w in BOXES], "mmeKinds": mme_kinds}
    commits = {name: args[f"{name.replace('-', '_')}_commit"] or commit(args[name.replace("-", "_")]) for name in ("llava", "vlmevalkit", "lmms-eval", "xtuner")}
    stored = {"commits": commits, "questions": questions, "scores": scores, "totals": totals}
    text = json.dumps(stored, ensure_ascii=False, separators=(",", ":"), default=float)
    with open(out / "scores.json.gz", "wb") as file, gzip.GzipFile(fileobj=file, mode="wb", mtime=0, filename="") as packed:
        packed.write(text.encode("utf-8", "surrogatepass"))
    print(n, "answers;", {name: round(float(np.mean(each)), 3) for name, each in scores.items()}, totals)


main()
