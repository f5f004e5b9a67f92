import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { it } from "node:test";

import { listenDuring } from "../../../test/support/listen-here.ts";
import { scratchDirectory } from "../../../test/support/scratch.ts";
import type { Config } from "../../common/config/load.ts";
import { readCosts } from "./cost.ts";

const resources = { NanoCpus: 2e9, CpuQuota: 0, CpuPeriod: 0, CpuShares: 0, Memory: 2 ** 30 };

/** The Docker API's answers, by path without query; a path that is not there is answered 404, as a container that has gone. */
const answers: Readonly<Record<string, string>> = {
  "/containers/json": JSON.stringify([{ Id: "gone" }, { Id: "runs" }]),
  "/containers/runs/json": JSON.stringify({
    Id: "runs",
    Name: "/runs",
    State: { Running: true, StartedAt: "2026-01-01T00:00:00Z" },
    Config: {},
    HostConfig: resources,
  }),
  "/events": "",
};

it("costs are told of what runs, though a container goes after it was listed", async (t) => {
  const server = createServer((request, response) => {
    const answer = answers[request.url?.replace(/\?.*$/, "") ?? ""];
    response
      .writeHead(answer === undefined ? 404 : 200)
      .end(answer ?? '{"message":"No such container: gone"}');
  });
  const host = `tcp://127.0.0.1:${await listenDuring(t, server)}`;
  const prices = join(scratchDirectory(), "prices.json");
  const rates = { perVcpuHour: 1, perGibHour: 0.5 };
  writeFileSync(prices, JSON.stringify({ date: "2026-01-02", of: "here", currency: "EUR", ...rates }));
  const { costs } = await readCosts({ backend: "local" } as Config, host, { prices, environment: {} });
  assert.deepEqual(
    costs.map(({ name, perHour }) => [name, perHour]),
    [["runs", 2.5]],
  );
});
