import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createSecureServer } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { setTimeout } from "node:timers/promises";

import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";

import { ManualClock } from "../../../common/manual-clock.ts";
import { newId } from "../../../common/ids.ts";
import { AgentService, ExitStatusSchema } from "../../../gen/sockerless/agent/v1/agent_pb.ts";
import { TaskRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { createAuthority } from "../authority/authority.ts";
import { readAuthority } from "../authority/authority-file.ts";
import { createSealer, type SealedRecord } from "../authority/seal.ts";
import { agentPort } from "./agent-port.ts";
import { dialledAgents } from "./dialled-agents.ts";
import { exitOf, TaskAgents } from "./task-agents.ts";

/** An agent that answers calls so. */
async function agentThat(
  resources: AsyncDisposableStack,
  routes: (sealer: ReturnType<typeof createSealer>) => Partial<ServiceImpl<typeof AgentService>>,
) {
  const directory = await mkdtemp(join(tmpdir(), "skl-task-agents-"));
  resources.defer(() => rm(directory, { recursive: true }));
  const file = join(directory, "ca.pem");
  const key = await readAuthority(file);
  const sealer = createSealer(key.secret);
  const clock = new ManualClock(Date.now());
  const authority = await createAuthority(key, clock);
  const agents = new TaskAgents(dialledAgents({ authority, clock, hint: "" }), authority, sealer);
  const pem = await readFile(file, "utf8");
  const server = createSecureServer(
    { key: pem, cert: pem, requestCert: true, rejectUnauthorized: false },
    connectNodeAdapter({ routes: (router) => router.service(AgentService, routes(sealer)) }),
  );
  // An address of loopback that nobody else uses: agents have one port.
  const host = `127.${randomInt(1, 255)}.${randomInt(256)}.${randomInt(1, 255)}`;
  server.listen(agentPort, host);
  resources.defer(() => void server.close());
  await once(server, "listening");
  return { agents, host, sealer };
}

describe("an agent that is to end what is left of a run", () => {
  it("goes on with that of a later start, as a restored state does not know it", async () => {
    await using resources = new AsyncDisposableStack();
    const containerId = newId();
    const signals: number[] = [];
    const { agents, host } = await agentThat(resources, (sealer) => ({
      describe: () => sealer.seal({ container: { id: containerId } }),
      async *watch() {
        yield { generation: 2n, event: { case: "state", value: { started: {} } } };
        await setTimeout(100);
        yield { generation: 2n, event: { case: "exited", value: { code: 137 } } };
      },
      signal: ({ signal }) => {
        signals.push(signal);
        return {};
      },
    }));
    const found = await agents.describe(containerId, { task: "", address: host, launchGeneration: 1n });
    const known = { containerId, address: found.address, agentPin: found.pin };
    assert.equal(await agents.endRun(create(TaskRecordSchema, { ...known, generation: 1n })), undefined);
    assert.deepEqual(signals, []);
    assert.equal((await agents.endRun(create(TaskRecordSchema, { ...known, generation: 2n })))?.code, 137);
    assert.deepEqual(signals, [9]);
  });
});

describe("what an agent hands back of a container that nobody remembers", () => {
  it("is believed with this backend's seal for that container, and not without", async () => {
    await using resources = new AsyncDisposableStack();
    const containerId = newId();
    let told: SealedRecord | undefined;
    const { agents, host, sealer } = await agentThat(resources, () => ({
      describe: () => told ?? assert.fail(),
    }));
    const sealed = sealer.seal({ container: { id: containerId, name: "web" } });
    told = sealed;

    const { record, ...agent } = await agents.describe(containerId, {
      task: "",
      address: host,
      launchGeneration: 1n,
    });
    assert.equal(record?.name, "web");
    const known = create(TaskRecordSchema, { containerId, ...agent, agentPin: agent.pin, generation: 1n });
    for (const [generation, later] of [
      [1n, undefined],
      [2n, 2n],
    ] as const) {
      told = sealer.seal({ container: { id: containerId, generation } });
      assert.equal(await agents.laterStartOf(known), later);
    }
    told = sealer.seal({ container: { id: newId(), generation: 2n } });
    assert.equal(await agents.laterStartOf(known), undefined);
    const lies: readonly SealedRecord[] = [
      sealer.seal({ container: { id: newId(), name: "web" } }),
      { ...sealer.seal({ container: { id: containerId, name: "lie" } }), seal: sealed.seal },
      { ...sealed, seal: new Uint8Array() },
    ];
    for (told of lies) {
      assert.equal(
        (await agents.describe(containerId, { task: "", address: host, launchGeneration: 1n })).record,
        undefined,
      );
    }
  });
});

describe("the time at which an agent says that its run has ended", () => {
  const startedMs = Date.UTC(2025, 0, 1);
  const endOf = (
    finishedAt: { readonly seconds: bigint; readonly nanos?: number } | undefined,
    start = startedMs,
  ) =>
    exitOf(
      create(ExitStatusSchema, { code: 3, ...(finishedAt && { finishedAt }) }),
      timestampFromMs(start),
    ).finishedAt.getTime();
  const isNow = (ms: number, beforeMs: number) => ms >= beforeMs && ms <= Date.now();

  it("is believed between the start and now", () => {
    assert.equal(endOf(timestampFromMs(startedMs + 1_500)), startedMs + 1_500);
  });

  it("is not before the start", () => {
    assert.equal(endOf(timestampFromMs(startedMs - 1)), startedMs);
    assert.equal(endOf({ seconds: -(1n << 62n) }, 0), 0);
  });

  it("is now where it says none, or one to come, or one that no calendar has", () => {
    const beforeMs = Date.now();
    assert.ok(isNow(endOf(undefined), beforeMs));
    assert.ok(isNow(endOf(timestampFromMs(beforeMs + 3_600_000)), beforeMs));
    assert.ok(isNow(endOf({ seconds: 1n << 62n }), beforeMs));
    assert.ok(
      isNow(endOf(timestampFromMs(startedMs), beforeMs + 3_600_000), beforeMs),
      "nor a start to come",
    );
  });
});
