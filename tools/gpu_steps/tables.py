"""Markdown tables of the steps' results; an empty string if there is nothing to show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.cases import Case
from benchmarks.contestants import CONTESTANTS
from benchmarks.gather import gathered
from tabulate import tabulate

Content = dict[str, Any]
MIB = 2**20
HIDDEN = ("packages", "device", "load")  # shown elsewhere, or of no use to a reader


def table(lines: list[Content]) -> str:
    keys = list(dict.fromkeys(key for line in lines for key in line))
    cells = [["" if line.get(key) is None else str(line[key]) for key in keys] for line in lines]
    return tabulate(cells, headers=keys, tablefmt="pipe", disable_numparse=True) if lines else ""


def results(content: Content) -> Iterator[Content]:
    """Yield the results that are not errors."""
    return (one for one in content.get("results", []) if "error" not in one)


def card(content: Content) -> Content:
    """Return the column that names the card, where the results are of several."""
    return {"card": content["card"]} if "card" in content else {}


def machine(facts: Content) -> str:
    return table([{"": key, "found": value} for key, value in facts.items() if key not in HIDDEN and value])


def steps(contents: dict[str, Content]) -> str:
    lines = []
    for name, one in contents.items():
        errors = sum("error" in result for result in one.get("results", [])) + bool(one.get("error"))
        line = {"step": name, "what": one.get("title", ""), **card(one), "outcome": one["status"]}
        line |= {"seconds": f"{one.get('seconds', 0):.0f}", "results": len(one.get("results", [])) - errors}
        lines.append({**line, "errors": errors, "not reached": ", ".join(one.get("not reached", []))})
    return table(lines)


def failures(contents: dict[str, Content]) -> str:
    """List every error by its last line; the files hold the tracebacks."""
    lines = []
    for name, one in contents.items():
        errors = [(result["case"], result["error"]) for result in one.get("results", []) if "error" in result]
        errors += [("the step itself", one["error"])] if one.get("error") else []
        if one["status"] not in ("done", "failed", "running"):
            last = (one.get("output") or "").strip().splitlines()[-1:] or ["no output"]
            errors.append(("the step itself", f"{one['status']}; its last output: {last[0]}"))
        last_lines = [(case, (error.strip() or "?").splitlines()[-1][:240]) for case, error in errors]
        lines += [f"- {name}, {case}: `{text.replace('`', chr(39))}`" for case, text in last_lines]
    return "\n".join(lines)


def tests(contents: dict[str, Content]) -> str:
    lines = []
    for name in ("operator_tests", "gpu_tests"):
        notes = contents.get(name, {}).get("notes", {})
        if "tests" in notes:
            lines.append({"step": name, **{key: notes["tests"].get(key, 0) for key in ("passed", "failed", "skipped")}})
        said = [one for one in contents.get(name, {}).get("results", []) if "said" in one]
        lines += [{"step": one["case"], "said": one["said"]} for one in said]
        lines += [{"step": tool, "said": notes[tool]} for tool in ("memcheck", "racecheck") if tool in notes]
    return table(lines)


def limits(content: Content) -> str:
    found = content.get("notes", {}).get("limits")
    if not found:
        return ""
    lines = [{"limit": "copy, read and written", "": f"{found['copied, bytes a second'] / 1e12:.2f} TB/s"}]
    for key, unit in (("multiply-adds a second", "T multiply-adds/s"), ("gathered, bytes a second", "TB/s")):
        name = "matrix product" if "multiply" in key else "rows gathered at random from a table"
        lines += [{"limit": f"{name}, {dtype}", "": f"{rate / 1e12:.2f} {unit}"} for dtype, rate in found[key].items()]
    return table(lines)


def operator(content: Content) -> str:
    lines: dict[tuple[str, ...], Content] = {}
    for one in results(content):
        for row in one.get("rows", []):
            case = row["case"]
            key = (case["size"], case["dtype"], case["locations"], row["mode"])
            line = lines.setdefault(key, {**dict(zip(("size", "dtype", "samples", ""), key, strict=True)), **card(one)})
            line.setdefault(f"{CONTESTANTS[row['contestant']].label}, ms", f"{row['median'] * 1e3:.3g}")
            if row["contestant"] == "fused" and row["ratio"] is not None:
                line["fused: x plain"] = f"{row['ratio']:.1f}"
                line["of copy limit"] = f"{row['floor'] / row['median']:.0%}"
                floor = row["gather_floor"]
                line["of gather limit"] = f"{floor / row['median']:.0%}" if floor else ""
                line["peak MiB"] = "" if row["peak"] is None else f"{row['peak'] / MIB:.0f}"
                line["error"] = f"{row['error']:.0e}"
    return table(list(lines.values()))


def inference(content: Content) -> str:
    lines = []
    for one in results(content):
        if "network, seconds" in one:
            words = ", ".join(f"{name} {1e3 * s:.1f} ms" for name, s in one["network, seconds"].items())
            lines.append(
                {
                    "case": f"{one['case']}: {one.get('what', 'the network alone')}",
                    **card(one),
                    "ours, ms by part": words,
                }
            )
            continue
        rows = {row["name"]: row for row in one["rows"]}
        mine, theirs = rows["ours"], rows.get("huggingface")
        line = {"case": one["case"], **card(one), "ours, images/s": f"{mine['images a second']:.1f}"}
        line["Hugging Face"] = f"{theirs['images a second']:.1f}" if theirs else None
        line["ratio"] = f"{theirs['seconds'] / mine['seconds']:.2f}" if theirs else None
        for name, row in (("ours, peak MiB", mine), ("Hugging Face, peak MiB", theirs)):
            line[name] = f"{row['peak'] / MIB:.0f}" if row and row["peak"] else None
        line["ours, ms by part"] = ", ".join(f"{part} {1e3 * s:.1f}" for part, s in mine["parts"].items())
        lines.append(line)
    return table(lines)


def training(content: Content) -> str:
    lines = []
    for one in results(content):
        if "batch" in one:
            words = {"s": f"{one['seconds']:.3g}", "images/s": f"{one['images a second']:.1f}"}
            lines.append({"case": f"{one['case']}: {one['batch']}", **card(one), **words})
            continue
        for name, row in one.get("rows", {}).items():
            line: Content = {"case": one["case"], **card(one), "who": "ours" if name == "ours" else "Hugging Face"}
            if "seconds" in row:
                line["s"] = f"{row['seconds']:.3g}"
                line["waits"] = row["waits"]
                line["parts, ms"] = ", ".join(f"{part} {1e3 * s:.0f}" for part, s in row["parts"].items())
            line["peak GiB"] = f"{row['peak'] / 2**30:.1f}" if row.get("peak") else None
            line["unable"] = row.get("unable")
            lines.append(line)
    return table(lines)


def scores(content: Content) -> str:
    wanted = {"panoptic_seg/PQ": "PQ", "segm/AP": "mask AP", "sem_seg/mIoU": "mIoU"}
    lines = []
    for one in results(content):
        if "scores" in one:
            line = {"data set": one["case"], "iterations": one["iterations"], "seconds in all": f"{one['seconds']:.0f}"}
            line["s an iteration"] = f"{one['seconds of an iteration']:.3f}"
            waiting = one.get("of these waiting for data")
            line |= {} if waiting is None else {"of these waiting for data": f"{waiting:.3f}"}
            lines.append({**line, **{v: f"{one['scores'][k]:.1f}" for k, v in wanted.items() if k in one["scores"]}})
    lines += [{"data set": key, "iterations": value} for key, value in content.get("notes", {}).items()]
    return table(lines)


def kernels(content: Content) -> str:
    """Show the forward and backward kernels that models call: those in packs of 16 bytes, and fixed sums."""
    found = next((one["kernels"] for one in results(content) if "kernels" in one), [])
    lines = []
    for one in found:
        if one["name"] not in ("forward", "backward") or "registers" not in one:
            continue
        if one["channels"] == 1 and one["sums"] != "fixed":
            continue
        line: Content = {"kernel": one["kernel"], "registers": one["registers"]}
        line["spilled, bytes"] = one["spill stores, bytes"] + one["spill loads, bytes"]
        line["shared, bytes"] = one["shared memory, bytes"]
        line["occupancy"] = None if one["occupancy"] is None else f"{one['occupancy']:.0%}"
        line["loads together"] = one.get("loads together")
        memory = one.get("memory", {})
        shown = {key: count for key, count in memory.items() if key.startswith(("LDG.128", "RED", "ATOM"))}
        line["16-byte loads, atomics"] = ", ".join(f"{count} {key}" for key, count in shown.items())
        lines.append(line)
    return table(sorted(lines, key=lambda line: line["kernel"]))


def work() -> str:
    lines = []
    for size in ("800x1067", "2x1024x1024"):
        for dtype in ("float32", "bfloat16"):
            case = Case(size, dtype, "near")
            line: Content = {"size": size, "dtype": dtype}
            for name, training in (("forward", False), ("training", True)):
                line[f"{name}: memory, MB"] = f"{case.work(training)[0] / 1e6:.0f}"
                line[f"{name}: gathered, MB"] = f"{gathered(case, training) / 1e6:.0f}"
            lines.append(line)
    return table(lines)
