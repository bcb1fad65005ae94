"""Writes the symbols file of libdbss0 from dbss-abi.json."""

import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    abi = json.load(file)
print(f"{abi['soname']} libdbss0 #MINVER#")
print("* Build-Depends-Package: libdbss-dev")
for function in sorted(abi["functions"], key=lambda function: function["name"]):
    print(f" {function['name']}@Base {function['since']}")
