/** An agent as a cloud container's entrypoint runs it, but as an ordinary process on this machine, and how it is dialled. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";

import type { DialTarget } from "../../src/agent-client/address.ts";
import { readAuthority } from "../../src/backends/common/cloud/authority-file.ts";
import { createAuthority } from "../../src/backends/common/cloud/authority.ts";
import { learnPin } from "../../src/backends/common/cloud/first-contact.ts";
import { systemClock } from "../../src/common/clock.ts";
import { newId } from "../../src/common/ids.ts";
import { freePort } from "../support/free-port.ts";
import { until } from "../support/until.ts";

const agentProgram = fileURLToPath(new URL("../../../build/sockerless-agent", import.meta.url));

/** Runs an agent until the test ends. */
export async function runInitAgent(t: TestContext): Promise<Required<DialTarget>> {
  const directory = await mkdtemp(join(tmpdir(), "sockerless-init-"));
  const authority = await createAuthority(await readAuthority(join(directory, "ca.pem")), systemClock);
  const containerId = newId();
  const port = await freePort();
  const agent = spawn(agentProgram, ["init"], {
    env: {
      SOCKERLESS_CONTAINER_ID: containerId,
      SOCKERLESS_CLIENT_CA_PIN: `sha256/${Buffer.from(authority.pin).toString("base64")}`,
      SOCKERLESS_LISTEN: `127.0.0.1:${port}`,
      SOCKERLESS_LOG_DIR: "",
    },
    stdio: "ignore",
  });
  t.after(async () => {
    if (agent.exitCode === null) {
      agent.kill("SIGKILL");
      await once(agent, "exit");
    }
    await rm(directory, { recursive: true });
  });
  const credentials = await authority.credentialsFor(containerId);
  const where = { host: "127.0.0.1", port };
  const pin = await until(() =>
    learnPin(where, credentials, AbortSignal.timeout(10_000)).catch(() => undefined),
  );
  return { address: { kind: "tcp", ...where, pin }, credentials, containerId };
}
