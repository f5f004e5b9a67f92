/** An agent as a cloud container's entrypoint runs it, but as an ordinary process on this machine, and how it is dialled. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";

import type { DialTarget } from "../../src/agent-client/address.ts";
import { readAuthority } from "../../src/backends/cloud/authority/authority-file.ts";
import { createAuthority } from "../../src/backends/cloud/authority/authority.ts";
import { learnPin } from "../../src/backends/cloud/authority/first-contact.ts";
import { systemClock } from "../../src/common/clock.ts";
import { newId } from "../../src/common/ids.ts";
import { freePort } from "../support/free-port.ts";
import { until } from "../support/until.ts";

const agentProgram = fileURLToPath(new URL("../../../build/sockerless-agent", import.meta.url));

/** Variables with which an agent is started, and its process. */
export interface AgentProcess extends AsyncDisposable {
  /** Its log so far. */
  readonly said: () => string;
  readonly hasEnded: () => boolean;
}

/** Runs an agent with these variables. */
export function spawnInitAgent(env: Readonly<Record<string, string>>): AgentProcess {
  const agent = spawn(agentProgram, ["init", "--log-dir", ""], {
    env,
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  agent.stderr.on("data", (chunk: Buffer) => {
    said += chunk.toString();
  });
  const hasEnded = (): boolean => agent.exitCode !== null || agent.signalCode !== null;
  return {
    said: () => said,
    hasEnded,
    async [Symbol.asyncDispose]() {
      if (!hasEnded()) {
        const exited = once(agent, "exit");
        agent.kill("SIGKILL");
        await exited;
      }
    },
  };
}

/** Names an authority's key, as agents are told it. */
export function pinText(pin: Uint8Array): string {
  return `sha256/${Buffer.from(pin).toString("base64")}`;
}

/** Runs an agent until the test ends. */
export async function runInitAgent(t: TestContext): Promise<Required<Omit<DialTarget, "peer">>> {
  const directory = await mkdtemp(join(tmpdir(), "sockerless-init-"));
  const authority = await createAuthority(await readAuthority(join(directory, "ca.pem")), systemClock);
  const containerId = newId();
  const port = await freePort();
  const agent = spawnInitAgent({
    SOCKERLESS_CONTAINER_ID: containerId,
    SOCKERLESS_CLIENT_CA_PIN: pinText(authority.pin),
    SOCKERLESS_LISTEN: `127.0.0.1:${port}`,
  });
  t.after(async () => {
    await agent[Symbol.asyncDispose]();
    await rm(directory, { recursive: true });
  });
  const credentials = await authority.credentialsFor(containerId);
  const where = { host: "127.0.0.1", port };
  const pin = await until(() =>
    learnPin(where, credentials, AbortSignal.timeout(10_000)).catch(() => undefined),
  );
  return { address: { kind: "tcp", ...where, pin }, credentials, containerId };
}
