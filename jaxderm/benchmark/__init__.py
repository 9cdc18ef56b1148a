"""Ours and the best PyTorch practice on one device, measured side by side.

python -m jaxderm.benchmark --workloads=ResNet50 --peer=torch --out=runs/bench

`main` reads the flags and starts one fresh process for each measurement
(`jobs`, `measure`); `workloads` is the table of what is measured; `timing`
alternates the contestants; `ours` and `torch_peer` are the contestants;
`device` measures what the machine can do at most; `table` prints.
"""
