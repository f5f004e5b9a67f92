/**
 * A session on an AWS that is not of this project: moto, behind which each task really runs. With SOCKERLESS_SOAK=1
 * (`npm run soak -- test/ecs/moto.test.ts`).
 */
import { after, before, describe } from "node:test";

import type { Daemon } from "../support/daemon.ts";
import { findMoto, startOnMoto } from "../support/moto.ts";
import { testSession } from "./session.ts";

const skip = process.env["SOCKERLESS_SOAK"] !== "1" && "fetches and runs a foreign AWS";

describe("a session on moto", { skip }, () => {
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
