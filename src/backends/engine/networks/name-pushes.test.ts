import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";

import { create } from "@bufbuild/protobuf";

import { untilTrue } from "../../../../test/support/until.ts";
import { ManualClock } from "../../../common/manual-clock.ts";
import { ContainerStatus } from "../../../gen/sockerless/backend/v1/container_pb.ts";
import { ContainerRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { ContainerTable } from "../../state/container-table.ts";
import type { EngineContext } from "../context.ts";
import { AgentLink } from "../containers/live/agent-link.ts";
import { keepPeers, pushToNetworks } from "./name-pushes.ts";

const size = 150;

/** Containers on one network whose agents call, and what was asked for them. */
function scene() {
  const counts = { issued: 0, hellos: 0, told: 0, peers: 0 };
  const atOnce = { now: 0, most: 0 };
  const clock = new ManualClock();
  const containers = new ContainerTable();
  const steps = { operations: [], undo: [], grows: new Set<never>(), overfills: new Set<never>() };
  const { put } = containers.changeInto(steps);
  const links = new Map<string, AgentLink>();
  const meet = (id: string): void => {
    const link = new AgentLink({ kind: "unix", path: "/nowhere" }, 1n, { containerId: id });
    const client = {
      // Another key in each answer.
      hello: () => Promise.resolve({ partnerKey: Buffer.from(`${id} ${counts.hellos++}`) }),
      names: ({ peers }: { peers: readonly unknown[] }) => {
        counts.told += 1;
        counts.peers += peers.length;
        return Promise.resolve({});
      },
    };
    Object.assign(link, { address: { kind: "called", pin: new Uint8Array(32) }, agent: { client } });
    links.set(id, link);
  };
  const add = (at: number, name: string): void =>
    put(
      create(ContainerRecordSchema, {
        ...{ id: `n${at}`, name, hostConfig: {} },
        state: { status: ContainerStatus.RUNNING },
        endpoints: { net: { networkId: "net-id", ipAddress: `10.0.0.${at}` } },
      }),
    );
  for (let at = 0; at < size; at++) {
    add(at, `name-${at}`);
    meet(`n${at}`);
  }
  const context = {
    driver: {
      ...{ traffic: { kind: "relayed" }, agentReach: { kind: "relayed", allow: () => {} } },
      ...{ sharing: { kind: "agents" }, networks: { endpointAddresses: "virtual" } },
      authority: {
        certifyPeer: async () => {
          counts.issued += 1;
          atOnce.most = Math.max(atOnce.most, ++atOnce.now);
          await nextTurn();
          atOnce.now -= 1;
          return {
            chain: [new Uint8Array(1)],
            renewedFromMs: clock.nowMs() + 60_000,
            goodUntilMs: clock.nowMs() + 1_200_000,
          };
        },
      },
    },
    state: { containers, networks: { get: () => ({ network: { options: {} } }), values: () => [] } },
    live: { peek: (id: string) => ({ link: links.get(id), lateNames: { count: 0, untilMs: 0 } }) },
    background: { run: (_: string, task: () => Promise<void>) => task() },
    logger: { warn: (fields: { err: Error }) => assert.fail(fields.err) },
    clock,
    shutdown: new AbortController().signal,
  } as unknown as EngineContext;
  return { counts, atOnce, clock, add, meet, context, push: () => pushToNetworks(context, ["net"]) };
}

describe("names and certificates of containers that reach each other by a relay", () => {
  it("cost the certificates of what has changed, whatever key an agent says next", async () => {
    const { counts, clock, add, meet, push } = scene();
    await push();
    assert.deepEqual(counts, {
      issued: size * (size - 1),
      hellos: size,
      told: size,
      peers: size * (size - 1),
    });
    counts.issued = 0;
    add(0, "renamed");
    await push();
    assert.equal(counts.told, 2 * size);
    assert.deepEqual([counts.issued, counts.hellos], [0, size]);
    add(size, "another");
    meet(`n${size}`);
    await push();
    assert.equal(counts.issued, 2 * size);
    counts.issued = 0;
    await clock.advance(60_000);
    await push();
    assert.equal(counts.issued, 0, "a change waits for no renewal");
    await clock.advance(1_200_000);
    await push();
    assert.equal(counts.issued, (size + 1) * size);
  });

  it("are renewed one certificate at a time, before they end", async () => {
    const { counts, atOnce, clock, context, push } = scene();
    await push();
    keepPeers(context);
    await untilTrue(() => counts.told === 2 * size);
    counts.issued = 0;
    atOnce.most = 0;
    await clock.advance(600_000);
    await untilTrue(() => counts.told === 3 * size);
    assert.equal(counts.issued, size * (size - 1));
    assert.equal(atOnce.most, 1);
  });
});
