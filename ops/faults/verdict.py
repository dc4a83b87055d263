"""What a run came to: each answer against the oracle, each stream against its answer."""

from __future__ import annotations

from ops.faults.bounds import limit_s, overruns
from ops.faults.heard import Heard
from ops.faults.oracle import Oracle, said_of
from ops.faults.outcome import Outcome
from ops.faults.run import Fault, Run


async def judge(run: Run, fault: Fault, seed: int, oracle: Oracle) -> Outcome:
    """Judge a run that has been carried out."""
    mismatches, failures, lost, degraded = [], [], 0, 0
    for heard in run.heard:
        lost += heard.lost_or_doubled(begun_anew=fault.begins_anew, deaf=fault.deaf)
        failure = _failure(heard, fault)
        failures += [failure] if failure else []
        if heard.answer is not None:
            words = await oracle.differs(heard.request, heard.answer)
            mismatches += [f"{heard.request.prompt[:24]}… by {heard.by}: {words}"] if words else []
            degraded += sum(token.degraded for token in said_of(heard.answer))
    rig = run.rig
    wait_s, peaks = max(heard.longest_wait_s for heard in run.heard), rig.peaks_mib()
    return Outcome(
        fault=fault.name,
        seed=seed,
        sessions=len(run.heard),
        struck=run.struck,
        answers=sum(heard.answer is not None for heard in run.heard),
        mismatches=mismatches,
        lost_or_doubled=lost,
        failures=failures,
        degraded_tokens=degraded,
        recovery_s=max(heard.longest_gap_s for heard in run.heard),
        peak_mib=peaks,
        longest_wait_s=wait_s,
        overruns=overruns(wait_s, limit_s(rig.plan.deadline_s, fault.holds_s), peaks, rig.calm_mib),
    )


def _failure(heard: Heard, fault: Fault) -> str:
    """Why an answer is missing, or degraded without need; empty when it is neither."""
    if heard.answer is None:
        return heard.failure or "no answer"
    if heard.answer["degraded"] and not fault.may_degrade:
        return f"degraded without need: {heard.answer['note']}"
    return ""
