import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { CloudError } from "../contract/cloud-error.ts";
import { capturedLogger } from "../testing/captured-logger.ts";
import { failedCall } from "../testing/cloud.ts";
import { Denials } from "./denials.ts";

class DeniedCall extends CloudError {
  readonly outcome = "refused";

  override get isDenied(): boolean {
    return true;
  }
}

describe("calls that a cloud denies", () => {
  it("are told with the first denial of each operation, and with the first one after it was allowed", () => {
    const { logger, warnings } = capturedLogger();
    const denials = new Denials(logger);
    const told = (operation: string): string =>
      `the backend is not allowed, or not yet, to do what it needs: ${operation} is denied`;
    const deny = (operation: string): void =>
      denials.failed(operation, new DeniedCall("forbidden", `${operation} is denied`));
    deny("read");
    assert.deepEqual(warnings(), [told("read")]);
    deny("read");
    denials.failed("write", failedCall("refused"));
    assert.deepEqual(warnings(), [told("read")]);
    deny("write");
    denials.allowed("read");
    deny("read");
    assert.deepEqual(warnings(), [told("read"), told("write"), told("read")]);
  });
});
