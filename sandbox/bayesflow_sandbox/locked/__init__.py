"""The locked engine: workflows in plain CPython, inside a process that can do nothing but compute.

Linux only, no root needed, nothing but the standard library. The host's side is ``engine``; a fresh
interpreter (``zygote``) forks one child for each execution, which confines itself (``lockdown``)
before it reads a byte of the job. The two speak ``codec`` values in the frames of ``channel``.

    host  ── control socket ──  zygote        spawn, kill, "child 7 has ended"
      └───── a socket a job ───── child       job, calls and answers, result
"""

__all__: list[str] = []
