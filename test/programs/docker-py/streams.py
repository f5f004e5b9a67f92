"""Streams as docker-py reads them, for the tests: `streams.py SOCKET IMAGE`; prints one JSON object."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import docker

EXECS = 60
AT_ONCE = 4


def main(socket: str, image: str) -> None:
    client = docker.DockerClient(base_url=f"unix://{socket}", timeout=120)
    container = client.containers.run(image, ["sleep", "1000"], detach=True, stop_signal="SIGKILL")
    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            results = pool.map(lambda n: container.exec_run(["echo", str(n)]) == (0, b"%d\n" % n), range(EXECS))
            whole_execs = sum(results)
        refused = container.exec_run(["/no/such/program"])
    finally:
        container.remove(force=True)

    script = "printf one; sleep 0.1; printf ' line\\n'; echo two; echo err >&2; echo three; printf end"
    writer = client.containers.run(image, ["sh", "-c", script], detach=True)
    try:
        followed = [piece.decode() for piece in writer.logs(stream=True, follow=True, stderr=False)]
        stored = [piece.decode() for piece in writer.logs(stream=True, follow=False, stderr=False)]
        attached = writer.attach(logs=True, stream=False, stderr=False).decode()
    finally:
        writer.remove(force=True)
    print(
        json.dumps(
            {
                "execs": EXECS,
                "whole_execs": whole_execs,
                "refused": [refused.exit_code, refused.output.decode()],
                "followed": followed,
                "stored": stored,
                "attached": attached,
            }
        )
    )


main(*sys.argv[1:])
