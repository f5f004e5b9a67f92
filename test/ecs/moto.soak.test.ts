/**
 * A session on an AWS that is not of this project: moto, behind which each task really runs.
 */
import { after, before, describe } from "node:test";

import type { Daemon } from "../support/daemon.ts";
import { findMoto, startOnMoto } from "../support/moto.ts";
import { testSession } from "./session.ts";

describe("a session on moto", () => {
  const resources = new AsyncDisposableStack();
  let daemon: Daemon;

  before(async () => {
    const found = await findMoto();
    if ("missing" in found) {
      throw new Error(found.missing);
    }
    daemon = await startOnMoto(found.packages, resources);
  });
  after(() => resources.disposeAsync());

  testSession(() => daemon, true);
});
