/** The generation file of a backend that a test makes up. */
import type { TestContext } from "node:test";

import { type Generation, openGeneration } from "../../src/backends/common/generation.ts";

/** Opens it as a backend at the address does; it is closed with the test. */
export async function openTestGeneration(t: TestContext, address: string): Promise<Generation> {
  const generation = await openGeneration(address);
  t.after(() => generation.close());
  return generation;
}
