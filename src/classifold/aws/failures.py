"""What a failed job's reason means, and the cure: the reason itself stays whole."""

from __future__ import annotations

import re

# The first that matches; what SageMaker writes into FailureReason, with what to do about it.
_CURES = (
    (r"CapacityError|[Ii]nsufficient capacity", "AWS has no such machine free now: launch again later, "
     "set INSTANCE_PREFERENCES or another INSTANCE_TYPE, or take another PROJECT_REGION"),
    (r"ResourceLimitExceeded|account-level service limit", "raise the quota of this instance type "
     "under Service Quotas, Amazon SageMaker, or choose another INSTANCE_TYPE"),
    (r"[Nn]o space left|ENOSPC|disk is full|DiskError", "raise VOLUME_GB"),
    (r"exit code: 137|OutOfMemory|[Oo]ut of memory|MemoryError|killed, most likely", "the machine's memory "
     "was used up: lower BATCH_SIZE, CACHE_GB or IMAGE_SIZE, or choose a larger INSTANCE_TYPE"),
    (r"MaxRuntimeExceeded|exceeded max_run", "raise MAX_HOURS, or lower EPOCHS"),
    (r"MaxWaitTimeExceeded", "there was too little spare capacity: raise MAX_WAIT_HOURS or set SPOT = False"),
    (r"AccessDenied|not authorized|403", "the role's rights fall short: `classifold upload` puts them right; "
     "a ROLE of your own needs the rights that docs/aws.md lists"),
    (r"[Nn]o S3 objects found|NoSuchKey|Data download failed", "send the pictures anew: classifold upload"),
    (r"ECR image|[Cc]annot pull|manifest|ImageNotFound", "build and push the image anew: classifold image"),
    (r"InternalServerError|[Ii]nternal [Ee]rror", "SageMaker itself failed: launch again"),
    (r"InsufficientInstanceCapacity|Unable to provision", "launch again later, or in other SUBNETS"),
)  # fmt: skip

# As our failure file has it, also where its lines were joined on the way.
_OWN_CURE = re.compile(r"(?:^|\s)hint: (\S.*?)(?=\s+error: |\s*, exit code: [0-9]+|\s*$)", re.MULTILINE)


def find_cure(reason: str) -> str:
    """Return what to do about a FailureReason; our own jobs write the cure into it themselves."""
    own = _OWN_CURE.search(reason)
    if own:
        return own.group(1)
    for pattern, cure in _CURES:
        if re.search(pattern, reason):
            return cure
    return "the log has more: classifold follow shows it"
