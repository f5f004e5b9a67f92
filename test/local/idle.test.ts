/** The cost of a daemon that has nothing to do. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { anonymousMemoryOf } from "../bench/memory.ts";
import { Daemon } from "../support/daemon.ts";
import { callApi } from "../support/call-api.ts";
import { untilTrue } from "../support/until.ts";

/** MB of all processes; 195 before what loading takes was given back, 130 with it, 95 with less that is loaded at all. */
const idleLimit = 115;

test("an idle daemon has given back what loading its code took", async () => {
  await using daemon = await Daemon.start();
  const { status } = await callApi(daemon.socket, "GET", "/info");
  assert.equal(status, 200);
  await untilTrue(() => anonymousMemoryOf(daemon) < idleLimit);
});
