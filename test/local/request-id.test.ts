/** One request of a client is followed through the logs of frontend, backend and agents by its ID. */
import assert from "node:assert/strict";
import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, api } = withDaemon({ args: ["--log-level", "debug"] });

interface Line {
  readonly process?: string;
  readonly request?: string;
  readonly msg?: string;
  readonly url?: string;
  readonly method?: string;
}

/** The daemon's lines that carry the ID. */
function linesOf(id: string): Line[] {
  return daemon.output
    .split("\n")
    .filter((line) => line.startsWith("{") && line.endsWith("}"))
    .map((line) => JSON.parse(line) as Line)
    .filter(({ request }) => request === id);
}

const requestId = (headers: Readonly<Record<string, unknown>>): string =>
  String(headers["sockerless-request-id"]);

test("a request's ID stands in the answer, in the frontend's lines and in the backend's", async () => {
  const { headers } = await api.call("GET", "/containers/nobody/json");
  const id = requestId(headers);
  assert.match(id, /^[0-9a-f]{16}$/);
  const lines = await until(() => {
    const found = linesOf(id);
    return found.some(({ msg }) => msg === "request") ? found : undefined;
  });
  assert.equal(lines.find(({ msg }) => msg === "request")?.url, "/v1.51/containers/nobody/json");
  assert.equal(
    lines.find(({ process }) => process === "backend")?.method,
    "sockerless.backend.v1.ContainerService/InspectContainer",
  );
  const another = requestId((await api.call("GET", "/_ping")).headers);
  assert.notEqual(another, id);
});

test("an agent's line about a call that failed names the request that it was made for", async () => {
  const id = await api.script("echo hello");
  await api.wait(id);
  const log = join(daemon.stateDir, "containers", id, "log");
  await rename(log, `${log}.away`);
  await writeFile(log, "no directory");
  const { status, headers } = await api.call("GET", `/containers/${id}/logs?stdout=1`);
  assert.equal(status, 500);
  const lines = await until(() => {
    const found = linesOf(requestId(headers)).filter(({ msg }) => msg === "a call failed");
    return found.length > 0 ? found : undefined;
  });
  assert.equal(lines[0]?.method, "/sockerless.agent.v1.AgentService/Logs");
  await api.remove(id);
});
