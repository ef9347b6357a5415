"""What a problem should take: the roofline bound of its launches on this device.

It ranks where nothing is measured, and tells how far from the possible a measured time is.
"""

from __future__ import annotations

from ..codegen.lowering import Offer
from ..ir import Node
from ..runtime import Session
from ..runtime.speed import Peak, peak
from .problem import Problem, problem_of
from .space import Candidate, Space

#: seconds between two launches of one queue, beyond what an empty kernel takes itself
BETWEEN = 3e-6


def estimate(node: Node, session: Session) -> float:
    """Seconds that a node takes at least, by the offer it has; 0 for nodes that launch nothing."""
    if not isinstance(node.offer, Offer) or not node.offer.launches:
        return 0.0
    return bound(problem_of(node), node.offer, peak(session), session.target.compute_units)


def bound(problem: Problem, offer: Offer, speeds: Peak, units: int) -> float:
    """The longer of computing and moving, and the cost of the launches.

    Scratch tensors are written and read once. A launch of fewer work-groups than the device has compute units leaves the others
    idle.
    """
    groups = [_groups(launch.kernel) for launch in offer.launches]
    busy = min(1.0, max(groups) / units)
    scratch = 2 * sum(spec.nbytes for spec in offer.work)
    work = max(problem.flops / (speeds.flops * busy), (problem.bytes + scratch) / speeds.bandwidth)
    return work + len(groups) * (speeds.launch + BETWEEN)


def ranked(space: Space, session: Session) -> list[tuple[float, Candidate]]:
    """The lowerings that apply to a problem as they are run unmeasured, with their bounds, the lowest first."""
    speeds = peak(session)
    found = [(bound(space.problem, space.offer(start), speeds, session.target.compute_units), start) for start in space.starts]
    return sorted(found, key=lambda entry: entry[0])


def _groups(kernel) -> int:
    """Work-groups of a launch."""
    total = 1
    local = (*kernel.local_size, 1, 1)
    for extent, size in zip(kernel.global_size, local, strict=False):
        total *= -(-extent // size)
    return total
