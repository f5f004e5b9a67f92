/**
 * A session on an AWS that is not of this project: moto, behind which each task really runs.
 */
import { describe } from "node:test";

import { duringTests } from "../support/during-tests.ts";
import { findMoto, startOnMoto } from "../support/moto.ts";
import { testSession } from "./session.ts";

describe("a session on moto", () => {
  const { daemon } = duringTests(async (resources) => {
    const found = await findMoto();
    if ("missing" in found) {
      throw new Error(found.missing);
    }
    return { daemon: await startOnMoto(found.packages, resources) };
  });

  testSession(() => daemon, true);
});
