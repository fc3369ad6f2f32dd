#!/usr/bin/env python3
"""Writes tests/golden/csv.json: tables as Python's csv module reads them, with a comma and with a tab."""
import csv
import io
import json
import platform
from pathlib import Path

TEXTS = [
    "a,b\n1,2\n", "a,b\r\n1,2\r\n3,4", "a,b\r1,2\r", "a\n1\n\n2\n", "a,b\n\"x,y\",\"line\nbreak\"\n", "a,b\n\"q\"\"q\",\"\"\"\"\n",
    "a,b\n\"\",x\n", "a,b\nx\"y,z\"\n", "a,b\n,\n", "a,b\n x , y \n", "a,b\n\"cr\r\nlf\",2\n3,4\n", "\"a\",\"b c\"\n1,2",
    "a,b,c\n1,,3\n,,\n", "a,b\nü,世界\n", "a,b\n\\n,\\\"\n", "a;b,c\n1;2,3\n", "a,b\n\"{\"\"k\"\": [1, 2]}\",'x'\n", "a\n\"\"\n", "a,b\n\n\n1,2\n\n",
]


def read(text, separator):
    rows = [r for r in csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True) if r]
    return {"text": text, "separator": separator, "rows": rows}


cases = [read(t.replace(",", s) if s == "\t" else t, s) for t in TEXTS for s in ",\t"]
out = Path(__file__).resolve().parents[1] / "tests" / "golden" / "csv.json"
with open(out, "w", encoding="utf-8") as f:
    f.write(json.dumps({"made_by": f"tools/make_csv_golden.py, Python {platform.python_version()}"})[:-1] + ', "cases": [\n')
    f.write(",\n".join(json.dumps(c) for c in cases) + "\n]}\n")
print(len(cases), "tables")
