"""The Docker engine, and `train --docker`: the job's own image started on this machine."""
