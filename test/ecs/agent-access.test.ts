/** Access to the agent of a cloud container: certificates from here, the agent's rule from there. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { generateKeyPairSync, randomInt, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";

import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";

import { createAgentClient } from "../../src/agent-client/client.ts";
import { type CloudAuthority, createAuthority } from "../../src/backends/cloud/authority/authority.ts";
import { readAuthority } from "../../src/backends/cloud/authority/authority-file.ts";
import { learnPin } from "../../src/backends/cloud/authority/first-contact.ts";
import { systemClock } from "../../src/common/clock.ts";
import { newId } from "../../src/common/ids.ts";
import { ManualClock } from "../../src/common/manual-clock.ts";
import type { SessionRequestSchema } from "../../src/gen/sockerless/agent/v1/agent_pb.ts";
import { until } from "../support/until.ts";
import { scratchDirectory } from "../support/scratch.ts";

const agentProgram = fileURLToPath(new URL("../../../build/sockerless-agent", import.meta.url));

describe("the agent of a cloud container", () => {
  const containerId = newId();
  const directory = scratchDirectory();
  let authority: CloudAuthority;
  let agent: ChildProcess;
  /**
   * Address of loopback that nobody else has: a port that was free could be taken before the agent listens.
   */
  const host = `127.${randomInt(1, 255)}.${randomInt(256)}.${randomInt(1, 255)}`;
  const port = 9111;

  before(async () => {
    const key = await readAuthority(join(directory, "ca.pem"));
    authority = await createAuthority(key, systemClock);
    agent = spawn(agentProgram, ["init", "--log-dir", ""], {
      env: {
        SOCKERLESS_CONTAINER_ID: containerId,
        SOCKERLESS_CLIENT_CA_PIN: `sha256/${Buffer.from(authority.pin).toString("base64")}`,
        SOCKERLESS_LISTEN: `${host}:${port}`,
      },
      stdio: "ignore",
    });
  });

  after(async () => {
    if (agent.exitCode === null) {
      agent.kill("SIGKILL");
      await once(agent, "exit");
    }
  });

  const pinWith = async (vouching: CloudAuthority, forContainer = containerId): Promise<Uint8Array> =>
    await learnPin({ host, port }, await vouching.credentialsFor(forContainer), AbortSignal.timeout(120_000));

  const hello = async (vouching: CloudAuthority, forContainer: string, pin: Uint8Array) => {
    const client = createAgentClient(
      { kind: "tcp", host, port, pin },
      { containerId, credentials: () => vouching.credentialsFor(forContainer) },
    );
    try {
      return await client.client.hello({}, { timeoutMs: 120_000 });
    } finally {
      client.close();
    }
  };

  it("answers its own instance, which then knows it by its key", async () => {
    const pin = await until(() => pinWith(authority).catch(() => undefined));
    const { containerId: told } = await hello(authority, containerId, pin);
    assert.equal(told, containerId);
    await assert.rejects(hello(authority, containerId, new Uint8Array(32)), /another key/);
  });

  it("answers nobody with another container's certificate, an expired one, or another instance's", async () => {
    const pin = await pinWith(authority);
    await assert.rejects(hello(authority, newId(), pin));
    const longAgo = new ManualClock(Date.now() - 24 * 60 * 60_000);
    const key = await readAuthority(join(directory, "ca.pem"));
    await assert.rejects(hello(await createAuthority(key, longAgo), containerId, pin));
    const other = await createAuthority(await readAuthority(join(directory, "other.pem")), systemClock);
    await assert.rejects(hello(other, containerId, pin));
  });

  it("lets a partner see listeners, and run nothing", async () => {
    const keys = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const spki = keys.publicKey.export({ type: "spki", format: "der" });
    const { chain } = await authority.certifyPartner(containerId, spki);
    const credentials = {
      key: keys.privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
      certificateChain: chain.map((der) => new X509Certificate(Buffer.from(der)).toString()).join(""),
    };
    const address = { kind: "tcp", host, port, pin: await pinWith(authority) } as const;
    const { client, close } = createAgentClient(address, { containerId, credentials });
    const asPartner = { timeoutMs: 120_000 };
    try {
      for await (const { message } of client.listeners({}, asPartner)) {
        assert.equal(message.case, "table");
        break;
      }
      const openExec = { execId: newId(), process: { args: ["true"] } };
      const exec = client.session(
        toIterable([{ message: { case: "openExec", value: openExec } }]),
        asPartner,
      );
      await assert.rejects(exec[Symbol.asyncIterator]().next(), { code: Code.PermissionDenied });
      await assert.rejects(client.describe({}, asPartner), { code: Code.PermissionDenied });
      await assert.rejects(client.partners({}, asPartner), { code: Code.PermissionDenied });
    } finally {
      close();
    }
  });

  it("knows its authority by the same pin after a restart, and from the PEM text", async () => {
    const file = join(directory, "ca.pem");
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    const again = await createAuthority(await readAuthority(file), systemClock);
    const fromText = await createAuthority(await readAuthority(await readFile(file, "utf8")), systemClock);
    assert.deepEqual(again.pin, authority.pin);
    assert.deepEqual(fromText.pin, authority.pin);
  });
});

async function* toIterable(
  requests: readonly MessageInitShape<typeof SessionRequestSchema>[],
): AsyncGenerator<MessageInitShape<typeof SessionRequestSchema>> {
  yield* requests;
}
