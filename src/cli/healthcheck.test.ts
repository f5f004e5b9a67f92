import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, it } from "node:test";

import { pino } from "pino";

import { type Part, serveMetrics } from "../common/metrics/serve-metrics.ts";
import { askReadiness, type Readiness } from "./healthcheck.ts";
import { scratchDirectory } from "../../test/support/scratch.ts";

const directory = scratchDirectory();

/** Asks a daemon whose parts are these. */
async function asked(address: string, parts: readonly Part[]): Promise<Readiness> {
  const listener = await serveMetrics(
    { address, tls: undefined, logger: pino({ level: "silent" }) },
    { metrics: async () => "", parts: async () => parts },
  );
  try {
    return await askReadiness(listener.address);
  } finally {
    await listener.close();
  }
}

describe("healthcheck", () => {
  const socket = `unix://${join(directory, "metrics.sock")}`;

  it("tells of a daemon at a socket or a loopback address whether it is ready, and what is not", async () => {
    for (const address of [socket, "tcp://127.0.0.1:0", "tcp://[::1]:0"]) {
      assert.deepEqual(await asked(address, [{ name: "state", problem: "" }]), {
        isReady: true,
        text: "state: ok\n",
      });
    }
    assert.deepEqual(await asked(socket, [{ name: "backend", problem: "nobody there" }]), {
      isReady: false,
      text: "backend: nobody there\n",
    });
  });

  it("says where nothing answers, no address is known, or one demands a certificate", async () => {
    await assert.rejects(askReadiness(socket), { kind: "system", message: /does not answer: .*ENOENT/ });
    await assert.rejects(askReadiness(undefined), { kind: "invalid", message: /metrics_addr is not set/ });
    await assert.rejects(askReadiness("tcp://0.0.0.0:9323"), {
      kind: "invalid",
      message: /demands a certificate/,
    });
  });
});
