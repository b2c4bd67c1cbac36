#!/usr/bin/env python3
"""Writes corpus/classify/*, one file for each statement of the spec, and corpus/words.dict: every word in them."""
import hashlib, pathlib, re, tomllib

here = pathlib.Path(__file__).resolve().parent
corpus = here / "corpus/classify"
corpus.mkdir(parents=True, exist_ok=True)
words = set()
for file in sorted((here.parent / "tests/spec/classify").glob("*.toml")):
    for case in (case for group in tomllib.loads(file.read_text())["group"] for case in group["case"]):
        sql = case["sql"].encode()
        (corpus / hashlib.sha256(sql).hexdigest()[:16]).write_bytes(sql)
        words.update(re.findall(r"[A-Za-z_]{2,}|[^\sA-Za-z_0-9]{2,4}", case["sql"]))
escaped = lambda word: "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else "".join(f"\\x{b:02x}" for b in c.encode()) for c in word)
(here / "corpus/words.dict").write_text("".join(f'"{escaped(word)}"\n' for word in sorted(words)))
print(len(list(corpus.iterdir())), "seeds,", len(words), "words")
