import assert from "node:assert/strict";
import { it } from "node:test";

import { ServiceManager } from "./service-manager.ts";

it("a helper that cannot be started, as for lack of memory, ends no service", () => {
  const told: string[] = [];
  const tell = (_values: object, message: string): void => void told.push(message);
  const logger = { debug: tell, info: tell, warn: tell, error: tell };
  const tooLong = "x".repeat(2 ** 20); // Linux takes no such variable, which Node throws, as it does where memory lacks.
  const manager = ServiceManager.of({ NOTIFY_SOCKET: tooLong }, logger);
  manager?.ready();
  manager?.stopping();
  assert.deepEqual(told, Array(2).fill("the service manager is told nothing"));
});
