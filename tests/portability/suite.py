"""Runs the tests of all operators on an OpenCL device, and records the outcome.

    python tests/portability/suite.py DEVICE --save [--note TEXT] [TESTS …]

DEVICE is what ``--device`` of the tests takes; see ``clnn devices``. Each runtime should have an environment of its own, without
the PoCL that comes with pyopencl, and a folder with its .icd only, named by OCL_ICD_VENDORS. Debian's PoCL 3.1:

    apt-get install pocl-opencl-icd
    OCL_ICD_VENDORS=/etc/OpenCL/vendors .venv-plain/bin/python tests/portability/suite.py portable --save

Intel's runtime for CPUs, whose own .icd names a folder that does not exist:

    .venv-plain/bin/pip install intel-opencl-rt intel-cmplr-lib-rt
    mkdir vendors && echo $PWD/.venv-plain/lib/libintelocl.so > vendors/intel.icd
    export LD_LIBRARY_PATH=$PWD/.venv-plain/lib OCL_ICD_VENDORS=$PWD/vendors
    .venv-plain/bin/python tests/portability/suite.py Intel --save

The tests run in a process of their own, which is started anew if a runtime crashes in it; the test counts as failed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
for folder in (ROOT, Path(__file__).parent):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from record import about, present, store  # noqa: E402

from clnn.runtime import select_device  # noqa: E402

TESTS = "tests/device/test_operators.py"
CRASHES = 100


def outcome(report: Path) -> dict:
    """Counts of a report in JUnit's XML, and the names of the tests that failed."""
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    failed = [case.get("name") for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    return {"passed": len(cases) - len(failed) - skipped, "failed": len(failed), "skipped": skipped, "failures": failed[:100]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("device")
    parser.add_argument("tests", nargs="*", default=[TESTS])
    parser.add_argument("--save", action="store_true", help="write bench/results/portability.json and docs/portability.md")
    parser.add_argument("--report", type=Path, help="of a run that has been made already, JUnit's XML")
    parser.add_argument("--note", default="", help="what is to be said about it")
    given = parser.parse_args()
    facts = select_device(given.device).facts
    report = given.report or Path(tempfile.mkdtemp()) / "report.xml"
    if given.report is None:
        subprocess.run([sys.executable, "-m", "pytest", *given.tests, "--device", given.device, "-n", "1", f"--junitxml={report}",
                        "--max-worker-restart", str(CRASHES)], cwd=ROOT, check=False)
    found = outcome(report)
    print(f"{facts.platform} {facts.driver}, {facts.name}: {found['passed']} passed, {found['failed']} failed, "
          f"{found['skipped']} skipped")
    if given.save:
        entry = {"provenance": about(), "device": facts.name, "version": facts.version, "tests": " ".join(given.tests),
                 "note": given.note, **found}
        store({"runtimes": {**present().get("runtimes", {}), f"{facts.platform} {facts.driver}": entry}})
    return 1 if found["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
