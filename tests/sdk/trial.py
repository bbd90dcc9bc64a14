"""The trial with the Python SDKs: runs every case, sync and async, and says which hold.

    trial.py PROVIDER TOKENMETER DATABASE [ONLY]

prints a line for each case, and as its last line how many passed and failed.
"""

import asyncio
import sys
from importlib.metadata import version

import cases_openai  # noqa: F401, declares cases
import cases_others  # noqa: F401, declares cases
import ledger
from clients import make_client
from harness import CASES, Trial


async def run(trial, only):
    """Runs the cases. Returns for each whether it holds."""
    held = []
    for case in CASES:
        for mode in case.modes:
            name = f"python {case.api} {mode}: {case.name}"
            if only in name:
                faults = [fault async for fault in trial.faults(case, mode) if fault]
                held.append(report(name, faults))
    if held:
        rows = ledger.count_all(trial.database)
        fault = f"{trial.forwarded} requests forwarded, {rows} rows"
        faults = [fault] if rows != trial.forwarded else []
        held.append(report("python: one row for each call", faults))
    return held


def report(name, faults):
    print("FAILED " if faults else "ok     ", name, flush=True)
    for fault in faults:
        print("        ", fault, flush=True)
    return not faults


def main():
    provider, tokenmeter, database, *only = sys.argv[1:]
    names = ("openai", "anthropic", "ollama")
    print("python SDKs:", ", ".join(f"{name} {version(name)}" for name in names))
    trial = Trial(provider, tokenmeter, database, make_client)
    held = asyncio.run(run(trial, "".join(only)))
    print(held.count(True), held.count(False))


if __name__ == "__main__":
    main()
