/**
 * Archives whose bytes go between a client and the agent of its container, with nobody in between. The tests of archives in
 * test/api run here this way, in test/ecs the other.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { get, type IncomingMessage } from "node:http";
import { buffer } from "node:stream/consumers";
import { describe, test } from "node:test";

import { type DaemonRole, isAlive, processOf } from "../support/processes.ts";
import { until, untilTrue } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const setting = withDaemon({ args: ["--log-level", "debug"] });
const ok = (...args: string[]) => setting.daemon.ok(...args);

/** More than kernel and clients buffer. */
const size = 16 * 1024 * 1024;
const tarBlock = 512;

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

/** How many archives were handed on. */
const handedOn = () => setting.daemon.output.split("an archive is handed on").length - 1;

/** An answer of which nobody reads the body yet. */
async function begun(path: string): Promise<IncomingMessage> {
  const request = get({ socketPath: setting.daemon.socket, path });
  const [response] = (await once(request, "response")) as [IncomingMessage];
  assert.equal(response.statusCode, 200);
  return response;
}

/** Kills a process, and waits for its successor. */
async function kill(role: DaemonRole): Promise<void> {
  const pid = await processOf(setting.daemon, role);
  process.kill(pid, "SIGKILL");
  await until(() => !isAlive(pid) || undefined);
  await processOf(setting.daemon, role, pid);
}

describe("an archive of a running container", () => {
  for (const role of ["frontend", "backend"] as const) {
    test(`comes whole though the ${role} is killed meanwhile`, async () => {
      const name = `from-${role}`;
      await ok("run", "-d", "--name", name, "busybox", "sleep", "1000");
      await ok("exec", name, "dd", "if=/dev/urandom", "of=/file", `bs=${size}`, "count=1");
      const [content] = (await ok("exec", name, "sha256sum", "/file")).split(" ");
      const before = handedOn();
      const archive = await begun(`/v1.51/containers/${name}/archive?path=/file`);
      const root = await begun(`/v1.51/containers/${name}/export`);
      await untilTrue(() => handedOn() - before === 2);
      await kill(role);
      const tar = await buffer(archive);
      assert.equal(sha256(tar.subarray(tarBlock, tarBlock + size)), content);
      assert.ok(
        (await buffer(root)).includes(tar.subarray(tarBlock, tarBlock + size)),
        "it is in the export",
      );
      await untilTrue(async () => (await setting.daemon.docker("version")).code === 0);
      await ok("rm", "-f", name);
    });
  }
});
