"""Reports of the benchmarks from small made-up results: tables, page, plots, messages; no device and no PyTorch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from bench import cases, report, tables  # noqa: E402
from clnn.errors import ArgumentError  # noqa: E402

PROVENANCE = {"command": "python -m bench gemm", "commit": "abc1234", "time": "2026-01-01T00:00:00+00:00", "python": "3.11.7",
              "cores": 4, "versions": {"clnn": "0.1.0", "numpy": "2.0"},
              "device": {"name": "Toy", "platform": "Box", "driver": "7", "version": "OpenCL 3.0", "compute_units": 8}}


def entry(who, seconds, precision="fp32", layout="NCHW", mode="eager", error=1e-6, wrong=False):
    label = " ".join(filter(None, [who, precision, "" if layout == "NCHW" else layout, "" if mode == "eager" else mode]))
    return {"who": who, "label": label, "variant": {"precision": precision, "layout": layout, "mode": mode}, "median_s": seconds,
            "min_s": 0.9 * seconds, "max_s": 1.1 * seconds, "error": error, "wrong": wrong, "gflops": 2e-3 / seconds,
            "bound_s": 0.5e-3, "of_bound": 0.5e-3 / seconds}


def case(name, *results, skipped=(), kind="matmul"):
    return {"name": name, "kind": kind, "group": "square", "params": {}, "flops": 2_000_000, "bytes": 120_000, "copies": 1,
            "results": list(results), "skipped": list(skipped)}


def result(suite="gemm"):
    skipped = {"who": "numpy", "variant": {"precision": "fp32", "layout": "NCHW", "mode": "eager"}, "reason": "too | large"}
    return {
        "provenance": PROVENANCE, "suite": suite, "options": {"rounds": 5, "quick": False},
        "contestants": {"clnn": {}, "rival": {"rival": "9"}},
        "absent": {"tinygrad": "not installed"}, "tolerance": {"fp32": 1e-4, "tf32": 5e-3},
        "roofline": {"gflops": {"fp32": 4.0}, "copy_gbs": 20.0, "sources": {"fp32": "measured", "bandwidth": "given"}},
        "cases": [
            case("100×100×100 NN", entry("clnn", 1e-3), entry("rival", 2e-3), entry("rival", 1.5e-3, layout="channels_last")),
            case("1×1000×1000 NT", entry("clnn", 2e-3), entry("rival", 1e-3),
                 entry("rival", 5e-4, layout="channels_last", error=0.01, wrong=True),
                 entry("rival", 1e-4, precision="tf32"), skipped=[skipped]),
        ]}


def test_a_table_per_precision():
    fp32, tf32 = tables.tables(result())
    assert fp32.markdown() == (
        "### Matrix products, fp32\n\n"
        "| case | Gflop | bound, ms | clnn, ms | rival, ms | rival channels_last, ms | clnn, % of bound | best / clnn |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| 100×100×100 NN | 0.00200 | 0.500 | 1.00 ±10 % | 2.00 ±10 % | 1.50 ±10 % | 50 | 1.50 |\n"
        "| 1×1000×1000 NT | 0.00200 | 0.500 | 2.00 ±10 % | 1.00 ±10 % | wrong (1e-02) | 25 | 0.50 |\n\n"
        "best / clnn is the time of the fastest opponent of the same precision over clnn's: geometric mean 0.87 over 2 cases, "
        "above 1 in 1.  \n"
        "Peak 4.00 GFLOP/s (measured), copy 20.0 GB/s (given).  \n"
        "clnn's largest error is 1.0e-06 of the reference's largest value; above 0.0001 a time does not count.  \n"
        "Skipped: numpy in 1×1000×1000 NT: too | large  \n"
        "Absent: tinygrad: not installed\n")
    assert tf32.title == "Matrix products, tf32"
    assert tf32.rows == [["1×1000×1000 NT", "0.00200", "–", "0.100 ±10 %", "–", "–"]]
    assert fp32.marks == {(0, 7): "good", (1, 7): "bad", (1, 5): "wrong"}


def test_only_right_results_of_the_same_precision_are_compared():
    first, second = result()["cases"]
    assert tables.best_opponent(second, "fp32")["median_s"] == 1e-3
    assert tables.speedup(first, "fp32") == pytest.approx(1.5)
    assert tables.speedup(second, "tf32") is None
    first["results"][0]["wrong"] = True
    assert tables.speedup(first, "fp32") is None


def test_frozen_weights_are_shown_but_not_compared():
    found = case("net infer", entry("clnn", 1e-3, mode="frozen"), entry("clnn", 3e-3), entry("rival", 6e-3), kind="infer")
    assert tables.speedup(found, "fp32") == pytest.approx(2.0)


def test_rows_become_a_table():
    found = {"provenance": PROVENANCE, "suite": "memory-use", "options": {"rounds": 1}, "absent": {"torch-cuda": "no device"},
             "rows": [{"case": "mlp", "peak MiB": 5.104, "launches": 10}, {"case": "vgg", "skipped": "no memory"}]}
    assert tables.row_table(found).markdown() == (
        "### Device memory\n\n| case | peak MiB | launches | skipped |\n| --- | ---: | ---: | ---: |\n"
        "| mlp | 5.10 | 10 | – |\n| vgg | – | – | no memory |\n\nAbsent: torch-cuda: no device\n")


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (1234.5, "1,234"), (12.345, "12.3"), (0.012345, "0.0123"),
                                             (1e-9, "1.00e-09")])
def test_figures(value, text):
    assert tables.figure(value) == text


def test_provenance_is_said():
    assert tables.provenance(result()) == (
        "Toy (Box, driver 7, 8 units); 4 cores; Python 3.11.7, clnn 0.1.0, numpy 2.0; rival: rival 9; commit abc1234, "
        "2026-01-01T00:00:00+00:00; `python -m bench gemm`; medians of 5 rounds.")


def test_files_become_markdown_plots_and_a_page(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    from bench.__main__ import main
    suites = {"gemm": ["matmul"] * 2, "layers": ["fprop", "wgrad"], "memory": ["add", "relu"], "models": ["train", "infer"]}
    for suite, kinds in suites.items():
        found = result(suite)
        for item, kind in zip(found["cases"], kinds, strict=True):
            item["kind"] = kind
            for one in item["results"]:
                one["images_per_s"] = 100.0
        (tmp_path / f"{suite}.json").write_text(json.dumps(found))
    files = [str(path) for path in sorted(tmp_path.glob("*.json"))]
    page, text, plots = tmp_path / "out.html", tmp_path / "out.md", tmp_path / "plots"
    assert main(["report", *files, "--html", str(page), "--markdown", str(text), "--plots", str(plots)]) == 0
    assert text.read_text().index("## models on Toy") < text.read_text().index("## gemm on Toy")
    html = page.read_text()
    assert html.count("data:image/png;base64,") == len(list(plots.glob("*.png"))) == 8
    assert "<td class=wrong>wrong (1e-02)</td>" in html and "src=\"http" not in html
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in plots.glob("*.png"))
    assert main(["report", files[0]]) == 0
    assert "### Matrix products, fp32" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["{", "[]", '{"suite": "gemm"}'])
def test_what_is_no_result_is_refused(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(ArgumentError, match=r"x\.json"):
        report.load([path])


def test_other_json_among_the_results_is_passed_over(tmp_path, capsys):
    for name, content in (("a.json", '{"accuracy": 1}'), ("b.json", json.dumps(result()))):
        (tmp_path / name).write_text(content)
    assert [found["suite"] for found in report.load(sorted(tmp_path.glob("*.json")))] == ["gemm"]
    assert "a.json: not a result" in capsys.readouterr().err


def test_reports_need_no_torch_and_no_device():
    code = ("import sys, bench.report, bench.tables, bench.page\n"
            "print([m for m in ('torch', 'pyopencl', 'tinygrad') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# -- references that decide what counts -------------------------------------------------------------------------------------

@pytest.mark.parametrize("layer", [(4, 6, 9, 3, 2, 1, 2), (3, 4, 8, 5, 1, 2, 1), (6, 6, 7, 3, 1, 1, 6), (2, 5, 11, 4, 3, 0, 1)])
@pytest.mark.parametrize("direction", ["fprop", "dgrad", "wgrad"])
def test_sampled_convolutions_are_those_of_clnn(layer, direction):
    from bench.suites.layers import case as layer_case
    from clnn import ops
    made = layer_case(layer, 2, direction, "")
    p = made.params
    common = {"stride": (p["stride"],) * 2, "padding": (p["padding"],) * 4, "groups": p["groups"]}
    op = {"fprop": lambda: ops.Conv2d(**common), "dgrad": lambda: ops.Conv2dDgrad(**common, size=tuple(p["image"][2:])),
          "wgrad": lambda: ops.Conv2dWgrad(**common, window=(p["window"],) * 2)}[direction]()
    (whole,) = op.reference(*made.arrays().values())
    assert whole.shape == made.outputs[0]
    indices = np.arange(whole.size)
    np.testing.assert_allclose(cases.convolution_reference(made, indices), whole.reshape(-1), rtol=1e-6, atol=1e-9)


def test_samples_have_the_corners():
    found = cases.sample(10**6, 10**4)
    assert found[0] == 0 and found[-1] == 10**6 - 1 and 2000 < len(found) <= 2048
    assert len(cases.sample(10**6, 10**8)) == 32
    assert cases.sample(5).tolist() == [0, 1, 2, 3, 4]


def test_cases_survive_json():
    made = cases.Case("x", "add", {}, {"x": (2, 3)}, 6, 72, outputs=((2, 3),))
    assert cases.Case.from_json(json.loads(json.dumps(made.to_json()))) == made
